"""The example of the README."""

import re
from pathlib import Path


def test_the_example_works(pytester):
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    pytester.makepyfile(test_bot=example)
    pytester.runpytest_subprocess("test_bot.py").assert_outcomes(passed=2)
