"""Vega, Vega-Lite and Vega-Embed as one script, out of the package `vl-convert-python`."""

from __future__ import annotations

import functools
import subprocess
import sys

from markupsafe import Markup

from common.errors import BadInput, first_line

# In a process of its own: the engine that bundles them has threads, which one that forks later had better not have
_MAKE = """\
import sys, vl_convert
sys.stdout.reconfigure(encoding="utf-8")
sys.stdout.write(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
"""


@functools.cache
def script() -> Markup:
    """The script, 0.9 MB; it takes some three seconds, once in the life of a process. Raises `BadInput`."""
    done = subprocess.run([sys.executable, "-c", _MAKE], capture_output=True, encoding="utf-8", check=False)
    if done.returncode or not done.stdout:
        said = first_line(done.stderr.strip().splitlines()[-1]) if done.stderr.strip() else f"code {done.returncode}"
        raise BadInput(f"got no Vega out of vl-convert-python ({said}): want it whole; pip install vl-convert-python")
    return Markup(done.stdout.replace("</script", "<\\/script").replace("<!--", "<\\!--"))
