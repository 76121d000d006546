"""A swtpm that a test may hold up, too."""

from __future__ import annotations

import os
import signal

import tlsbench.swtpm


class Swtpm(tlsbench.swtpm.Swtpm):
    """Runs until `stop` or `kill`; may be started again, on the same state and port."""

    def pause(self) -> None:
        """Take commands, and answer none."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.resume()
        super().stop()
