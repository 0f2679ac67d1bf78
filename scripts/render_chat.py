"""Renders the templates of internal/chat/testdata with Jinja2, as transformers' apply_chat_template does, for comparison:

    python3 scripts/render_chat.py internal/chat/testdata > rendered.json

It needs jinja2 (written with 3.1.6). An error is null: what it says is the library's own business.
"""
import json
import pathlib
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(jinja2.ext.Extension):
    """The tag with which transformers marks what the model wrote; it renders its content."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def raise_exception(message):
    raise jinja2.TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def main():
    folder = pathlib.Path(sys.argv[1])
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: "03 Feb 2025" if form == "%d %b %Y" else form
    conversations = json.loads((folder / "conversations.json").read_text())
    rendered = {}
    for path in sorted((folder / "templates").glob("*.jinja")):
        template = environment.from_string(path.read_text())
        for name, messages in conversations.items():
            for prompt in (False, True):
                try:
                    text = template.render(messages=messages, add_generation_prompt=prompt, bos_token="<s>",
                                           eos_token="</s>", tools=None, documents=None)
                except Exception:  # noqa: BLE001 - whatever it is, a template that fails here must fail there
                    text = None
                rendered[f"{path.stem}, {name}, {'prompt' if prompt else 'whole'}"] = text
    messages = conversations["two turns"][:3]
    for snippet in json.loads((folder / "snippets.json").read_text()):
        try:
            text = environment.from_string(snippet).render(messages=messages, add_generation_prompt=True, bos_token="<s>",
                                                           eos_token="</s>", tools=None, documents=None)
        except Exception:  # noqa: BLE001
            text = None
        rendered["snippet " + snippet] = text
    json.dump(rendered, sys.stdout, ensure_ascii=False, indent=1)
    print()


main()
