"""Whether this machine can isolate programs. Where it cannot, what isolation does is not tested, but its refusal is."""

from zhenlong.errors import UserError
from zhenlong.verify.sandbox import best_isolation


def _isolated() -> bool:
    try:
        best_isolation()
    except UserError:
        return False
    return True


ISOLATED = _isolated()
UNSAFE = not ISOLATED  # for tests of what is no matter of isolation
