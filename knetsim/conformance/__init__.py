"""Kubernetes' own end-to-end suite, unmodified, against a simulation: `utils/conformance`.

The suite is the outside judge of what knetsim calls a cluster: `k8s.io/kubernetes/test/e2e`, compiled as Kubernetes
compiles it for its releases (tools/kubernetes/e2e.test.program). It runs on the control plane's host C0cp, for specs
connect to Nodes and pods by their addresses; Ginkgo's own command runs several of them side by side.

    plan.yaml    data: the groups of specs that run, those left out and why, the quick subset, reasons of failures
    plan.py      reads it
    suite.py     the command line, and the run in a simulation of its own or in one that runs
    results.py   Ginkgo's report → what passed, failed and was skipped (pure)
    page.py      the results as docs/conformance.md (pure)
"""
