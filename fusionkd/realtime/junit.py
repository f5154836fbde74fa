"""A verdict in JUnit XML, which CI systems show as tests: one test case of each finding.

A missed limit is a ``failure``. An inconclusive one is an ``error``, the convention's word for a test that could not
be carried out: ``skipped`` would turn the run green although nothing was proven, and a failure would claim a miss.
"""

import re
from xml.etree import ElementTree as ET

from fusionkd.realtime.verdict import Verdict
from fusionkd.realtime.wording import flat, headline, is_simulated

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(verdict: Verdict) -> str:
    """One ``testsuite`` with a ``testcase`` of each finding; the machine stands in its ``properties``."""
    status = [finding.status for finding in verdict.findings]
    trace = verdict.trace
    duration_s = (int(trace.finish_ns[-1]) - int(trace.arrival_ns[0])) / 1e9 if trace.frames else 0.0
    counts = {
        "tests": str(len(status)),
        "failures": str(status.count("missed")),
        "errors": str(status.count("inconclusive")),
        "time": f"{duration_s:.3f}",
    }
    root = ET.Element("testsuites", {"name": "fusionkd deadline", **counts})
    suite = ET.SubElement(root, "testsuite", {"name": "fusionkd.deadline", "skipped": "0", **counts})
    properties = ET.SubElement(suite, "properties")
    facts = {"modelled": trace.modelled, "simulated": is_simulated(trace.about), **dict(flat(trace.about))}
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=_text(name), value=_text(str(value)))
    for finding in verdict.findings:
        case = ET.SubElement(suite, "testcase", classname="fusionkd.deadline", name=_text(finding.name), time="0")
        if finding.status != "met":
            kind = "failure" if finding.status == "missed" else "error"
            outcome = ET.SubElement(case, kind, type=finding.status, message=_text(finding.sentence))
            outcome.text = _text(finding.sentence)
    ET.SubElement(suite, "system-out").text = _text(headline(verdict))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _text(text: str) -> str:
    return _NOT_XML.sub("?", text)
