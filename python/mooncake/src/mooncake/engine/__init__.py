"""mooncake.engine on Transfer Engine.

A folder, because Python prefers one to the extension module of Mooncake beside it. There is no
mooncake/__init__.py, so it overwrites none.
"""
from transfer_engine.mooncake.engine import *  # noqa: F403
from transfer_engine.mooncake.engine import __all__  # noqa: F401
