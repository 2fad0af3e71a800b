"""tools/gpu_check without a GPU: its arguments, limits, and what it leaves of parts that fail."""

import importlib.machinery
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tools/gpu_check"
loader = importlib.machinery.SourceFileLoader("gpu_check", str(PROGRAM))
gpu_check = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_check", loader))
loader.exec_module(gpu_check)


def call(*words):
    return subprocess.run([sys.executable, PROGRAM, *words], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)


def shell(name, limit, *scripts):
    return gpu_check.Part(name, limit, [["sh", "-c", script] for script in scripts], "a test")


class Arguments(unittest.TestCase):
    def test_list_names_every_part_in_its_order_and_stays_under_nine_minutes(self):
        done = call("--list")
        self.assertEqual(done.returncode, 0)
        rows = [line for line in done.stdout.splitlines() if line and line[0] != " "]
        self.assertEqual([row.split()[0] for row in rows],
                         ["build", "conformance", "tests", "nccl", "memcheck", "racecheck",
                          "synccheck", "initcheck", "quickstart"])
        self.assertLess(sum(int(row.split()[1]) for row in rows), 540)

    def test_only_chooses_parts(self):
        done = call("--list", "--only", "tests", "--only", "conformance")
        rows = [line.split()[0] for line in done.stdout.splitlines() if line and line[0] != " "]
        self.assertEqual(rows, ["conformance", "tests"])

    def test_an_unknown_part_or_option_is_an_error_that_names_the_parts(self):
        done = call("--only", "benchmark")
        self.assertEqual(done.returncode, 2)
        self.assertIn("racecheck", done.stderr)
        self.assertEqual(call("--fast").returncode, 2)

    @unittest.skipIf(gpu_check.find_gpu(), "this machine has a GPU")
    def test_without_a_gpu_it_says_so_and_does_nothing(self):
        results = ROOT / "benchmarks/results"
        before = sorted(results.iterdir())
        done = call()
        self.assertEqual(done.returncode, 3)
        self.assertIn("no NVIDIA GPU", done.stderr)
        self.assertEqual(sorted(results.iterdir()), before)


class Sessions(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.folder = pathlib.Path(self.scratch.name) / "device" / "date"

    def run_session(self, *parts):
        """Exit code, and the results that lie in results.json by part."""
        session = gpu_check.Session(self.folder, {"device": "A GPU", "date": "today"}, list(parts))
        code = session.run()
        data = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
        self.assertEqual(data["device"], "A GPU")
        return code, {part["name"]: part for part in data["parts"]}

    def test_passed_parts_pass_and_keep_their_output(self):
        code, parts = self.run_session(shell("tests", 20, "echo one", "echo two"))
        self.assertEqual(code, 0)
        self.assertEqual(parts["tests"]["status"], "passed")
        log = (self.folder / "tests.log").read_text(encoding="utf-8")
        self.assertIn("\none\n", log)
        self.assertIn("\ntwo\n", log)
        summary = (self.folder / "summary.md").read_text(encoding="utf-8")
        self.assertIn("| tests | passed |", summary)

    def test_a_part_that_fails_ends_its_commands_and_not_the_session(self):
        code, parts = self.run_session(shell("conformance", 20, "exit 5", "echo never"),
                                       shell("tests", 20, "true"))
        self.assertEqual(code, 1)
        self.assertEqual(parts["conformance"]["status"], "failed")
        self.assertEqual(parts["conformance"]["exit_code"], 5)
        self.assertEqual(parts["tests"]["status"], "passed")
        self.assertNotIn("\nnever\n", (self.folder / "conformance.log").read_text(encoding="utf-8"))

    def test_a_program_that_is_not_there_fails(self):
        part = gpu_check.Part("tests", 20, [["build/no_such_program"]], "a test")
        code, parts = self.run_session(part)
        self.assertEqual((code, parts["tests"]["status"]), (1, "failed"))

    def test_after_a_build_that_fails_nothing_runs(self):
        code, parts = self.run_session(shell("build", 20, "false"), shell("tests", 20, "true"))
        self.assertEqual(code, 1)
        self.assertEqual(parts["tests"]["status"], "not run")

    def test_a_part_at_its_limit_is_cut_off_with_all_that_it_started(self):
        begin = time.monotonic()
        mark = self.folder / "mark"
        code, parts = self.run_session(
            shell("tests", 1, f"(sleep 3; touch {mark}) & echo begun; sleep 60"),
            shell("memcheck", 20, "sleep 3"))
        self.assertLess(time.monotonic() - begin, 30)
        self.assertEqual(code, 1)
        self.assertEqual(parts["tests"]["status"], "cut off")
        self.assertEqual(parts["memcheck"]["status"], "passed")
        self.assertIn("begun", (self.folder / "tests.log").read_text(encoding="utf-8"))
        self.assertFalse(mark.exists())

    def test_results_are_there_before_the_next_part_ends(self):
        results = self.folder / "results.json"
        copy = self.folder / "copy.json"
        self.run_session(shell("conformance", 20, "true"),
                         shell("tests", 20, f"cp {results} {copy}"))
        parts = json.loads(copy.read_text(encoding="utf-8"))["parts"]
        self.assertEqual([part["status"] for part in parts], ["passed", "not run"])

    def test_without_compute_sanitizer_its_parts_are_skipped(self):
        part = gpu_check.Part("memcheck", 20, [["compute-sanitizer", "x"]], "a test")
        which = gpu_check.shutil.which
        self.addCleanup(setattr, gpu_check.shutil, "which", which)
        gpu_check.shutil.which = lambda program: None
        code, parts = self.run_session(part)
        self.assertEqual((code, parts["memcheck"]["status"]), (0, "skipped"))

    def test_a_long_log_keeps_its_beginning_and_its_end(self):
        count = gpu_check.LONGEST_LOG_BYTES
        self.run_session(
            shell("tests", 60, f"echo begin; head -c {count} /dev/zero; echo; echo end"))
        log = (self.folder / "tests.log").read_bytes()
        self.assertLess(len(log), count + 100)
        self.assertIn(b"begin", log)
        self.assertTrue(log.endswith(b"\nend\n"))


if __name__ == "__main__":
    unittest.main()
