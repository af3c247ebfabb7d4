"""Counts the non-static data members that each class, struct and union of a C++ source declares.

It reads the text, without a compiler or preprocessor. Inherited members do not count. A struct
inside with a name of its own (`struct { int a, b; } pair;`) is one member; the members of an
unnamed one belong to the class around it.
"""
import bisect
import re

# What may contain text that looks like code, and directives.
NO_CODE = re.compile(r'//(?:\\\n|[^\n])*|/\*.*?\*/|R"(?P<end>[^()\\\s]{0,16})\(.*?\)(?P=end)"|'
                     r'"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])+\'|'
                     r'^[ \t]*#(?:\\\n|[^\n])*', re.S | re.M)
TOKEN = re.compile(r"[A-Za-z_]\w*|[0-9][\w.']*|::|->|<<|\S")
OPENING, CLOSING = set("({["), set(")}]")
WITH_PARENTHESES = {"alignas", "decltype", "__attribute__"}
MACRO = re.compile(r"[A-Z][A-Z0-9]*_[A-Z0-9_]*$")  # TE_GUARDED_BY
NO_MEMBER = {"using", "typedef", "friend", "static", "static_assert", "template"}


class Tokens:
    def __init__(self, source):
        code = NO_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), source)
        line_ends = [match.start() for match in re.finditer("\n", code)]
        matches = list(TOKEN.finditer(code))
        self.text = [match[0] for match in matches]
        self.lines = [1 + bisect.bisect_left(line_ends, match.start()) for match in matches]

    def __getitem__(self, at):
        return self.text[at] if 0 <= at < len(self.text) else ";"

    def __len__(self):
        return len(self.text)

    def after_brackets(self, at):
        depth = 0
        while at < len(self):
            depth += (self[at] in OPENING) - (self[at] in CLOSING)
            at += 1
            if not depth:
                break
        return at

    def after_angles(self, at):
        """Behind the list of template arguments that begins at `at`."""
        depth = 0
        while at < len(self) and self[at] != ";":
            if self[at] in OPENING:
                at = self.after_brackets(at)
                continue
            depth += (self[at] == "<") - (self[at] == ">")
            at += 1
            if not depth:
                break
        return at

    def after_attributes(self, at):
        while True:
            if self[at] == "[" and self[at + 1] == "[":
                at = self.after_brackets(at)
            elif self[at] in WITH_PARENTHESES or MACRO.match(self[at]):
                at += 1
                if self[at] == "(":
                    at = self.after_brackets(at)
            else:
                return at


def class_head(tokens, at):
    """(name, index of the opening brace) if a class is defined at `at`."""
    if tokens[at] not in {"class", "struct", "union"} or tokens[at - 1] == "enum":
        return None
    at = tokens.after_attributes(at + 1)
    name = ""
    while re.match(r"\w", tokens[at]) and tokens[at] != "final":
        if name:
            return None  # struct addrinfo hints{}
        name, at = tokens[at], at + 1
        if tokens[at] == "<":
            at = tokens.after_angles(at)
        if tokens[at] == "::":
            name, at = "", at + 1
    at += tokens[at] == "final"
    if tokens[at] == ":":
        while tokens[at] not in {"{", ";"}:
            at = tokens.after_angles(at) if tokens[at] == "<" else at + 1
    return (name, at) if tokens[at] == "{" else None


def after_function(tokens, at):
    """`at` is anywhere before the body, or before the semicolon."""
    while at < len(tokens) and tokens[at] not in {";", "}"}:
        braces = tokens[at] == "{"
        at = tokens.after_brackets(at) if tokens[at] in OPENING else at + 1
        if braces and tokens[at] not in {"{", ","}:  # a body, not the initializer of a member
            return at
    return at


def after_initializer(tokens, at):
    """The comma before the next declarator, or the semicolon."""
    while at < len(tokens) and tokens[at] not in {";", "}"}:
        if tokens[at] == ",":
            after = at + 1
            while tokens[after] in {"*", "&"}:
                after += 1
            if tokens[after + 1] in {",", ";", "=", "{", "[", ":"}:
                return at
        at = tokens.after_brackets(at) if tokens[at] in OPENING else at + 1
    return at


def declarators(tokens, at):
    """(how many data members are declared, index behind them), from the type on."""
    members = 1
    while at < len(tokens) and tokens[at] not in {";", "}"}:
        if tokens[at] == "operator" or (tokens[at] == "(" and tokens[at + 1] not in {"*", "&"}):
            return 0, after_function(tokens, at)
        if tokens[at] == "(":  # a pointer to a function
            at = tokens.after_brackets(tokens.after_brackets(at))
        elif tokens[at] == "<":
            at = tokens.after_angles(at)
        elif tokens[at] in {"=", "{", ":"}:
            at = after_initializer(tokens, at)
        elif tokens[at] == ",":
            members, at = members + 1, at + 1
        elif tokens[at] == "[" and tokens[at + 1] != "[":
            at = tokens.after_brackets(at)
        else:
            at = max(at + 1, tokens.after_attributes(at))
    return members, at


def declaration(tokens, at):
    """(how many data members it declares, index behind it)."""
    at = tokens.after_attributes(at)
    if tokens[at] == "template":
        return 0, declaration(tokens, tokens.after_angles(at + 1))[1]
    head = class_head(tokens, at)
    if head:
        name, brace = head
        at = tokens.after_attributes(tokens.after_brackets(brace))
        if tokens[at] == ";":
            return 0 if name else data_members(tokens, brace), at
    elif tokens[at] in {"class", "struct", "union"} and tokens[at + 2] == ";":
        return 0, at + 2
    elif tokens[at] == "enum":
        end = at
        while tokens[end] not in {";", "{"}:
            end += 1
        if tokens[at + 1] in {"class", "struct"} or tokens[end] == "{":
            at = tokens.after_brackets(end) if tokens[end] == "{" else end
            if tokens[at] == ";":
                return 0, at
    members, end = declarators(tokens, at)
    return 0 if NO_MEMBER & set(tokens.text[at:min(end, at + 4)]) else members, end


def data_members(tokens, brace):
    """How many the class declares whose body begins at `brace`."""
    members, at = 0, brace + 1
    while at < len(tokens) and tokens[at] != "}":
        if tokens[at] == ";":
            at += 1
        elif tokens[at] in {"public", "protected", "private"} and tokens[at + 1] == ":":
            at += 2
        else:
            declared, at = declaration(tokens, at)
            members += declared
    return members


def classes(source):
    """(line, name, data members) of each class that the text defines."""
    tokens = Tokens(source)
    for at in range(len(tokens)):
        head = class_head(tokens, at)
        if head:
            yield tokens.lines[at], head[0] or "an unnamed class", data_members(tokens, head[1])
