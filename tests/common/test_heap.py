"""Memory that is freed stays with the process: what is asked for anew is not new to the system."""

import resource
import subprocess
import sys

import pytest

SAYS = """
import resource, sys, torch
from common.heap import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else None)
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    large = [torch.zeros(2**25) for _ in range(2)]
    small = [torch.zeros(2**12) for _ in range(2**11)]
    del large, small
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 2 * 2**25 * 4 // resource.getpagesize()  # of the large ones


def pages_that_came_anew(how: str) -> tuple[str, int]:
    """What the setting answers, and how many pages the system gave on the third time."""
    said = subprocess.run([sys.executable, "-c", SAYS, how], capture_output=True, text=True, check=True)
    kept, faults = said.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's setting")
def test_what_is_allocated_again_takes_no_page_from_the_system():
    assert pages_that_came_anew("keep") == ("True", pytest.approx(0, abs=PAGES // 100))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's setting")
def test_without_it_large_blocks_come_fresh_each_time():
    assert pages_that_came_anew("as set")[1] >= PAGES
