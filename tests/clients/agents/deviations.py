"""What models make of the form in which calls are asked for: each as a function of a tool's name and its
arguments. An agent that gets such answers finishes its task all the same.

`$NONCE` is the nonce of the request's markers, which the simulated model reads in its instructions.
"""

import html
import json
import sys
from pathlib import Path

from gateway import turn


def marked(name, arguments, quote='"'):
    return f"<call-$NONCE name={quote}{name}{quote}>{arguments}</call-$NONCE>"


def plain(name, arguments):
    return marked(name, json.dumps(arguments))


def behind_words(name, arguments):
    return f"I will do that next.\n\n{plain(name, arguments)}\n"


def fenced(name, arguments):
    return f"```xml\n{plain(name, arguments)}\n```"


def fenced_arguments(name, arguments):
    return marked(name, f"\n```json\n{json.dumps(arguments, indent=2)}\n```\n")


def in_single_quotes(name, arguments):
    return marked(name, json.dumps(arguments), "'")


def of_a_namespace(name, arguments):
    return plain(f"functions.{name}", arguments)


def with_more_attributes(name, arguments):
    return plain(name, arguments).replace(">{", ' id="1" >\n{')


def without_an_end(name, arguments):
    return plain(name, arguments).removesuffix("</call-$NONCE>")


def in_parallel(name, arguments):
    uses = [{"recipient_name": f"functions.{name}", "parameters": arguments}]
    return plain("multi_tool_use.parallel", {"tool_uses": uses})


def listed(name, arguments):
    return marked(name, json.dumps([{"name": name, "arguments": arguments}]))


def with_a_wrong_escape(name, arguments):
    return marked(name, json.dumps(arguments).replace("echo ", "true \\d; echo "))


def with_a_trailing_comma(name, arguments):
    return marked(name, json.dumps(arguments)[:-1] + ",}")


def with_a_raw_line_end(name, arguments):
    return marked(name, json.dumps(arguments).replace("echo ", "true\necho "))


def with_unquoted_keys(name, arguments):
    [(key, value)] = arguments.items()
    return marked(name, f"{{{key}: {json.dumps(value)}}}")


def without_a_brace(name, arguments):
    return marked(name, json.dumps(arguments)[:-1])


def with_a_comment(name, arguments):
    return marked(name, "{ // the line\n" + json.dumps(arguments)[1:])


def in_another_case(name, arguments):
    return plain(name.swapcase(), arguments)


def with_another_prefix(name, arguments):
    return plain(f"tools.{name}", arguments)


def wrapped(name, arguments):
    return marked(name, json.dumps({"name": name, "arguments": arguments}))


def encoded_twice(name, arguments):
    return marked(name, json.dumps(json.dumps(arguments)))


def unquoted(name, arguments):
    return marked(name, json.dumps(arguments), "")


def in_curly_quotes(name, arguments):
    return plain(name, arguments).replace(f'"{name}"', f"“{name}”")


def by_another_attribute(name, arguments):
    return plain(name, arguments).replace(" name=", " tool=")


def named_within(name, arguments):
    return f"<call-$NONCE>{json.dumps({'name': name, 'arguments': arguments})}</call-$NONCE>"


def by_parameters(name, arguments):
    [(key, value)] = arguments.items()
    return marked(name, f'\n<parameter name="{key}">{value}</parameter>\n')


def in_a_tag(name, arguments):
    return marked(name, f"<arguments>{json.dumps(arguments)}</arguments>")


def escaped(name, arguments):
    return html.escape(plain(name, arguments), quote=True)


def with_a_foreign_end(name, arguments):
    return plain(name, arguments).replace("</call-$NONCE>", "</call>")


def with_two_ends(name, arguments):
    return plain(name, arguments) + "</call-$NONCE></call-$NONCE>"


def with_inner_quotes(name, arguments):
    return marked(name, json.dumps(arguments).replace("'", '"'))


FORMS = [
    plain,
    behind_words,
    fenced,
    fenced_arguments,
    in_single_quotes,
    of_a_namespace,
    with_more_attributes,
    without_an_end,
    in_parallel,
    listed,
    with_a_wrong_escape,
    with_a_trailing_comma,
    with_a_raw_line_end,
    with_unquoted_keys,
    without_a_brace,
    with_a_comment,
    in_another_case,
    with_another_prefix,
    wrapped,
    encoded_twice,
    unquoted,
    in_curly_quotes,
    by_another_attribute,
    named_within,
    by_parameters,
    in_a_tag,
    escaped,
    with_a_foreign_end,
    with_two_ends,
    with_inner_quotes,
]

# How lines.py is started; the file that it writes to is one argument more.
LINES = [sys.executable, str(Path(__file__).parent / "lines.py")]
# Calls of its tools.
WITHOUT_ARGUMENTS = [
    marked("stamp", "{}"),
    marked("stamp", ""),
    marked("stamp", " \n"),
    marked("stamp", "null"),
    marked("stamp", '"{}"'),
    '<call-$NONCE name="stamp"/>',
]
RECORD = {"count": 3, "exact": True, "names": ["a", "b"], "options": {"depth": 2}}
OF_OTHER_TYPES = [
    plain("record", {name: json.dumps(value) for name, value in RECORD.items()}),
    plain("record", RECORD | {"exact": "True", "count": "3", "options": {"depth": "2"}}),
    marked("record", json.dumps(RECORD).replace("true", "True")),
]
# Between two calls of one answer.
JUNK = ["", "\n", ",\n", "\n\n---\n\n", "\n- ", "\n2. ", "</call>\n", "\n</tool_calls>\n"]
JUNK += ["\n```\n```xml\n", "<br/>", "<|end|>"]


# Calls that are only shown, or in other forms than the one asked for, or without the nonce: they may have
# come from a web page.
SHOWN = """All done. Never run this:
<call-0000 name="{name}">{arguments}</call-0000>
<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>
to=functions.{name} {arguments}
Nor this: `<call-$NONCE name="{name}">{arguments}</call-$NONCE>`. Shall I run it?"""



def script_for_an_unknown_tool(name, key):
    """The turns of a model that calls a tool that nobody has, and then one that has `on` written."""
    return [turn(plain("launch_rocket", {"to": "the moon"})), *going_on(name, key)]


def script_for_half_a_call(name, key):
    """The turns of a model whose run ends within a call, as if it were whole; and then as above."""
    half = plain(name, {key: "echo half >>done.txt; echo whole >>done.txt"})
    return [turn(f"I go.\n{half[: half.index('whole')]}"), *going_on(name, key)]


def going_on(name, key):
    return [turn(plain(name, {key: "echo on >>done.txt"})), turn("All done.")]


def script_for_lines(prefix=""):
    """The turns of a model that calls the tools of lines.py, whose names it writes with this prefix; and
    the lines that these then have written.
    """
    calls = [*WITHOUT_ARGUMENTS, *OF_OTHER_TYPES]
    junk = [f"{WITHOUT_ARGUMENTS[0]}{junk}{OF_OTHER_TYPES[0]}" for junk in JUNK]
    stamp, record = ["stamp", {}], ["record", RECORD]
    lines = [stamp] * len(WITHOUT_ARGUMENTS) + [record] * len(OF_OTHER_TYPES) + [stamp, record] * len(JUNK)
    texts = ["\n".join(calls), *junk]
    texts = [text.replace('name="', f'name="{prefix}') for text in texts]
    return [*map(turn, texts), turn("All done.")], lines


def written(file):
    """What lines.py has written to a file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def script(name, key, file="done.txt", forms=FORMS):
    """The turns of a model that has a line written to a file in each of these forms, and at last only
    shows calls; and the lines that the file then has.
    """

    def arguments(line):
        return {key: f"echo '{line}' >>{file}"}

    names = [form.__name__ for form in forms]
    turns = [turn(form(name, arguments(line))) for form, line in zip(forms, names)]
    shown = SHOWN.format(name=name, arguments=json.dumps(arguments("shown")))
    return [*turns, turn(shown)], names
