"""How a replay ends early."""


class Difference(Exception):
    """The reference does otherwise than the trace: at which path in it, and what."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path
        self.what = what
