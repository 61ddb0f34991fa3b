"""What stands before an entry of a list, or a note under a table."""

from __future__ import annotations

import re

MARK = re.compile(r"[•●▪■◦○◆►✓*·–—-]|\(?(?:\d{1,2}|[a-z]|[ivx]{1,4})[.)]|\*{1,3}")
