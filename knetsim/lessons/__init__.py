"""Pages whose commands are run by the tests: the course, the README, everything under docs/.

    remark.py       what an invisible comment says, as `<!-- run: mininet | expect: 2 received -->`; its language
    markdown.py     a page's text as headings, slides, comments and fenced blocks, with their lines
    lesson.py       these as a lesson: chapters, and in order the blocks that are run (block.py, made by reading.py)
    checks.py       what a block printed against what was expected; pure
    report.py       a difference in words, expected and seen side by side; pure
    sessions.py     the terminals in which blocks are typed: the mininet> prompt, shells here, on hosts and in pods
    stage.py        all that a lesson runs in: its directory, its simulation, its terminals
    player.py       a lesson's blocks played in order, up to a chapter, or one at a time

Commands: `knetsim lesson check FILE…` reads pages, `knetsim lesson test FILE…` runs them, or a chapter, and `run FILE`
goes through one with its reader. What it costs: a simulation for each page, a terminal for each place it names.
"""
