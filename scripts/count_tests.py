"""Counts the tests of a ctest report (JUnit): "N passed, N failed" and, where some were, "N skipped".

A program that runs all its tests in one process is one test of ctest; here its tests count one by
one, from what GoogleTest says at its end.

Usage: count_tests.py REPORT
"""
import re
import sys
import xml.etree.ElementTree as ElementTree

RAN = re.compile(r"^\[==========\] (\d+) tests? from \d+ test suites? ran\.", re.M)
FAILED = re.compile(r"^\[  FAILED  \] (\d+) tests?, listed below", re.M)
SKIPPED = re.compile(r"^\[  SKIPPED \] (\d+) tests?, listed below", re.M)


def last(pattern, text):
    """The number that the last match has; None without one."""
    numbers = pattern.findall(text)
    return int(numbers[-1]) if numbers else None


def counts(report):
    """(passed, failed, skipped) of all test cases of a report."""
    ran = failed = skipped = 0
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        text = case.findtext("system-out") or ""
        went = case.get("status") == "run"
        ran_here = last(RAN, text)
        ran += 1 if ran_here is None else ran_here
        if case.find("failure") is not None or case.get("status") == "fail":
            # One that crashed has no list; a leak is found after all tests have passed.
            failed += last(FAILED, text) or 1
        elif ran_here is not None:
            skipped += last(SKIPPED, text) or 0
        elif not went:
            skipped += 1
    return ran - failed - skipped, failed, skipped


def main():
    passed, failed, skipped = counts(sys.argv[1])
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))


if __name__ == "__main__":
    main()
