"""Looking at a run: a self-contained page with its curves, its timeline, and what is needed to repeat it.

    from allgrad.report import write_report

    write_report(["runs/a", "runs/b"], "comparison.html")

The command is `allgrad report RUN [RUN ...]`. The page needs plotly (`pip install allgrad[report]`).
"""

from allgrad.report.page import Report as Report
from allgrad.report.page import write_report as write_report
from allgrad.report.run_files import RunFiles as RunFiles
from allgrad.report.run_files import read_run as read_run
