"""Each rule of scripts/style_check.py, on text that breaks it and on text that only looks so."""
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scripts"))
import class_members  # noqa: E402
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


class Members(unittest.TestCase):
    def counted(self, body):
        source = f"class A {{\n{body}\n}};"
        return next(members for _, name, members in class_members.classes(source) if name == "A")

    def test_members_of_every_form_count(self):
        for body, members in (
                ("int a;", 1),
                ("int a = 0, *b = nullptr, c[2];", 3),
                ("std::map<int, long> a, b;", 2),
                ("int a{f(1, 2)}, b{2};", 2),
                ("std::pair<int, long> a = std::pair<int, long>(1, 2);", 1),
                ("uint32_t a : 1, b : 2;", 2),
                ("const std::function<void(Slice* run, bool last)> a;", 1),
                ("void (*a)(int, int) = nullptr;", 1),
                ("decltype(&::ibv_open_device) a = nullptr;", 1),
                ("int a TE_GUARDED_BY(mutex_) = 0;", 1),
                ("alignas(64) std::atomic<int> a{0};", 1),
                ("[[maybe_unused]] int a;", 1),
                ("struct timespec a;", 1),
                ("enum te_state a;", 1),
                ("struct B { int c, d; } a;", 1),
                ("union { int a; float b; };", 2),
                ("std::string a = \"int b; int c;\";  // int d;", 1),
                ("char a = '\"';  /* int b; */ char b = '\"';", 2),
                ("uint64_t a = 1'000'000, b;", 2),
                ("std::function<int()> a = [](auto x) { int y = x; return y; };", 1)):
            self.assertEqual(self.counted(body), members, body)
            # Neither what comes before nor what comes after is lost.
            self.assertEqual(self.counted(f"int x;\n{body}\nint y;"), members + 2, body)

    def test_what_is_not_of_each_object_does_not(self):
        for body in (
                "static int a;", "static constexpr int kA = 1, kB{2};", "using B = int;",
                "typedef int B;", "friend class B;", "class B;", "struct B { int a; };",
                "enum B { kA, kB };", "enum class B : int { kA };", "enum class B : int;",
                "static_assert(sizeof(int) == 4);", "template <typename T> T a(T b) { T c; }",
                "template <class T> struct B { T a; };", "A() : B(1), c_{2} { int d; }",
                "explicit A(int b);", "~A() = default;", "A& operator=(A b);",
                "bool operator<(const A& b) const { return true; }", "operator bool() const;",
                "int b(int c) const noexcept override;", "auto b(int c) -> std::pair<int, int>;",
                "void b() TE_REQUIRES(c) { int d = 0; }",
                "static std::vector<int> b() { return {}; }",
                "TE_EXPORT static Status b(int c);", "#define B int c;", "public:", ";"):
            self.assertEqual(self.counted(body), 0, body)
            self.assertEqual(self.counted(f"int x;\n{body}\nint y;"), 2, body)

    def test_classes_of_every_form_are_found(self):
        for head in ("struct A", "class A final : public B<int>, C", "class TE_CAPABILITY(\"x\") A",
                     "template <typename T> class A", "class __attribute__((packed)) A",
                     "class N::A", "union A", "struct [[nodiscard]] A"):
            self.assertEqual(list(class_members.classes(f"\n{head} {{ int a; }};")),
                             [(2, "A", 1)], head)
        for text in ("struct A;", "struct A f() { int b; }", "enum class A { kB };",
                     "struct addrinfo hints {};", "template <class A> void f() { int b; }"):
            self.assertEqual(list(class_members.classes(text)), [], text)
        self.assertEqual(list(class_members.classes("class A { struct B { int a, b; }; B c; };")),
                         [(1, "A", 1), (1, "B", 2)])

    def test_twenty_are_enough(self):
        def found(name, members):
            lines = ["struct A {"] + ["  int a;"] * members + ["};"]
            return breaches(style_check.check_members, name, lines)

        self.assertEqual(found("src/base/a.h", 20), [])
        self.assertEqual(found("src/base/a.h", 21), [1])
        self.assertEqual(found("include/transfer_engine/a.h", 21), [1])
        self.assertEqual(found("tests/base/a.cpp", 21), [])


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
