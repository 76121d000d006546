"""The answer, measured: who could have read which secret, and what that is good for.

A scenario runs real connections on a backend (`scenario`), an observer notes where each secret was
at each moment (`observation`), and a closure over the rules of the key schedule says what every
attacker can do with what was within reach (`closure`, `rules`, `attackers`).
"""
