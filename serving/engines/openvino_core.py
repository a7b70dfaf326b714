"""OpenVINO itself, of which a process has one.

What computes on the CPU gives the thread that first needs it a stack for signals of its own, and takes it away with
itself. Of two that end in the order in which they began, that thread is left with the first one's stack, which is no
longer there: then the next Ctrl-C ends the process without a word (OpenVINO 2026.4). In return the threads of as many
networks as there ever were at once stay.
"""

from __future__ import annotations

import openvino as ov

CORE = ov.Core()
"""It loads what computes when that is needed first, and is kept as long as the process."""
