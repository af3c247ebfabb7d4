"""Each rule of scripts/style_check.py, on text that breaks it and on text that only looks so."""
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scripts"))
import style_check  # noqa: E402


def breaches(check, *arguments):
    found = []
    check(*arguments, lambda number, what: found.append((number, what)))
    return [number for number, _ in found]


class FunctionLengths(unittest.TestCase):
    def lines(self, *head, count, indent=""):
        return [*head] + [f"{indent}  x();"] * count + [f"{indent}}}"]

    def found(self, lines):
        return breaches(style_check.check_function_lengths, lines)

    def test_seventy_lines_are_enough(self):
        self.assertEqual(self.found(self.lines("void f() {", count=68)), [])
        self.assertEqual(self.found(self.lines("void f() {", count=69)), [1])

    def test_a_head_of_several_lines_counts(self):
        lines = self.lines("te::Status f(int a,", "             int b) {", count=69)
        self.assertEqual(self.found(lines), [1])

    def test_methods_in_classes_count(self):
        method = self.lines("  void f() const TE_REQUIRES(mutex_) {", count=69, indent="  ")
        self.assertEqual(self.found(["class A {", " public:", *method, "};"]), [3])

    def test_namespaces_and_classes_may_be_long(self):
        self.assertEqual(self.found(self.lines("namespace te {", count=200)), [])
        self.assertEqual(self.found(self.lines("struct A {", count=200)), [])


class Layers(unittest.TestCase):
    def found(self, name, included):
        return bool(breaches(style_check.check_includes, name, [f'#include "{included}"']))

    def test_what_lies_above_or_beside_is_refused(self):
        self.assertTrue(self.found("src/base/a.cpp", "core/plan.h"))
        self.assertTrue(self.found("src/core/a.cpp", "transport/transport.h"))
        self.assertTrue(self.found("src/transport/tcp/a.cpp", "directory/directory.h"))
        self.assertTrue(self.found("src/transport/tcp/a.cpp", "transport/local/local.h"))
        self.assertTrue(self.found("src/engine/a.cpp", "transport/tcp/tcp.h"))
        self.assertTrue(self.found("src/engine/transports.cpp", "transport/tcp/tcp.h"))
        self.assertTrue(self.found("tools/te/a.cpp", "engine/impl.h"))
        self.assertTrue(self.found("include/transfer_engine/a.h", "base/fd.h"))

    def test_what_lies_below_is_allowed(self):
        self.assertFalse(self.found("src/core/a.cpp", "base/bytes.h"))
        self.assertFalse(self.found("src/transport/tcp/a.cpp", "transport/tcp/lane.h"))
        self.assertFalse(self.found("src/transport/tcp/a.cpp", "transport/transport.h"))
        self.assertFalse(self.found("src/transport/factories.cpp", "transport/tcp/tcp.h"))
        self.assertFalse(self.found("tools/te/a.cpp", "table.h"))


class Threads(unittest.TestCase):
    def found(self, name, line):
        return breaches(style_check.check_threads, name, [line]) == [1]

    def test_only_the_wrapper_starts_threads(self):
        self.assertTrue(self.found("src/engine/a.cpp", "  t_ = std::thread([this] { run(); });"))
        self.assertTrue(self.found("src/core/a.h", "  std::vector<std::jthread> threads_;"))
        self.assertTrue(self.found("src/directory/a.cpp", "  std::async(f);"))
        self.assertTrue(self.found("src/directory/a.cpp", "  ::pthread_create(&t, 0, f, 0);"))
        self.assertFalse(self.found("src/base/thread.cpp", "  ::pthread_create(&t, 0, f, 0);"))
        self.assertFalse(self.found("tests/base/a.cpp", "  std::thread([] {}).join();"))
        self.assertFalse(self.found("src/base/a.h", "  std::thread::id owner_;"))
        self.assertFalse(self.found("src/base/a.h", "  std::this_thread::yield();"))


class Features(unittest.TestCase):
    def found(self, line):
        return breaches(style_check.check_features, "src/base/a.cpp", [line]) == [1]

    def test_only_the_compiler_may_be_asked(self):
        self.assertTrue(self.found("#ifdef TE_WITH_CUDA"))
        self.assertTrue(self.found("#  if defined(HAVE_VERBS)"))
        self.assertFalse(self.found("#if defined(__clang__)"))
        self.assertFalse(self.found("#if LIBCURL_VERSION_NUM >= 0x075500"))


if __name__ == "__main__":
    unittest.main()
