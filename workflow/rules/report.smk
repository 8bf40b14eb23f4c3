rule report:
    """Everything on one page: pictures, tables, costs and the configuration; and the numbers as a table."""

    # The audits, made from all views, stand for them: a thousand files less to look at for each set.
    input:
        **{name: files for name, files in measured().items() if name != "views"},
        code=code("report"),
        accepted=accepted(),
        settings=recorded("report", configuration=STUDY),
    output:
        page=report(
            f"{RESULTS}/report.html", caption="../report/page.rst", category="study"
        ),
        summary=report(
            f"{RESULTS}/summary.csv", caption="../report/page.rst", category="study"
        ),
        figures=report(
            directory(f"{RESULTS}/figures"),
            patterns=["{section}/{figure}.svg"],
            caption="../report/figure.rst",
            category="{section}",
            labels={"figure": "{figure}"},
        ),
        configuration=f"{RESULTS}/configuration.json",
    log:
        f"{LOGS}/report/report.log",
    conda:
        "../../envs/genview.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(60),
    script:
        "../scripts/report.py"
