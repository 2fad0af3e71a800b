// prepare as its users run it: what it makes, what it refuses, and what is left when it is stopped.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

// A folder with inputs, and the set OUT in it.
class Preparation {
 public:
  const TemporaryFolder& folder() const { return folder_; }
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::string out() const { return path("out"); }

  Words command(const Words& words) const {
    Words all = {program("prepare"), "--tokenizer", "bytes", "--out", out()};
    all.insert(all.end(), words.begin(), words.end());
    return all;
  }
  Finished prepare(const Words& words) const { return run(command(words)); }
  // By a shell: `before`, then the command.
  Finished shell(const std::string& before, const Words& words) const {
    std::string line = before;
    for (const std::string& word : command(words)) line += " '" + word + "'";
    return run({"sh", "-c", line});
  }
  // Exit code 2, one line with these parts, and nothing but the inputs left.
  void check_rejected(const Words& words, const Words& parts) const {
    const auto before = tree_of(folder_.path());
    const Finished finished = prepare(words);
    INFO(finished.err);
    CHECK(finished.exit_code == 2);
    CHECK(finished.err.starts_with("prepare: "));
    CHECK(count_lines(finished.err) == 1);
    CHECK(finished.out.empty());
    for (const std::string& part : parts) {
      INFO(part);
      CHECK(finished.err.find(part) != std::string::npos);
    }
    CHECK(tree_of(folder_.path()) == before);
  }

 private:
  TemporaryFolder folder_;
};

std::string json_lines(int count) {
  std::string lines;
  for (int i = 0; i < count; ++i) {
    lines += "{\"text\": \"" + std::to_string(i) + " " + std::string(i * 37 % 1000, 'x') + "\"}\n";
  }
  return lines;
}

// A prepare that has read all that there is of a pipe, and waits for more.
class WaitingPrepare {
 public:
  explicit WaitingPrepare(const Preparation& preparation)
      : pipe_(make_pipe(preparation.path("pipe.jsonl"))),
        process_(
            preparation.command({"--shard-tokens", "100000", preparation.path("pipe.jsonl")})) {
    const std::string lines = json_lines(4000);
    size_t written = 0;
    CHECK(process_.wait_until([&] {
      const ssize_t count = write(pipe_, lines.data() + written, lines.size() - written);
      if (count > 0) written += static_cast<size_t>(count);
      return written == lines.size();
    }));
    const std::string second_shard = preparation.out() + ".partial/train-00001.bin";
    CHECK(process_.wait_until([&] { return fs::exists(second_shard); }));
  }
  ~WaitingPrepare() { close(pipe_); }
  WaitingPrepare(const WaitingPrepare&) = delete;
  WaitingPrepare& operator=(const WaitingPrepare&) = delete;
  Process& process() { return process_; }

 private:
  // Open both ways: neither end waits for the other, and there is no end of file.
  static int make_pipe(const std::string& path) {
    check(mkfifo(path.c_str(), 0600) == 0, "a pipe can be made");
    return open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  }

  int pipe_;
  Process process_;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("prepare: a set with its manifest, its summary, and how a recipe names it") {
  const Preparation preparation;
  const std::string a = preparation.folder().write("a.txt", "first");
  const std::string b = preparation.folder().write("b.jsonl", json_lines(30));
  const Finished finished = preparation.prepare({"--validation-fraction", "0.2", "--json", a, b});
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  const auto summary = nlohmann::json::parse(finished.out);
  const auto manifest = nlohmann::json::parse(content(preparation.out() + "/manifest.json"));
  CHECK(summary.at("documents") == 31);
  CHECK(manifest.at("documents") == 31);
  CHECK(summary.at("tokens") == manifest.at("tokens"));
  CHECK(summary.at("text_bytes") == summary.at("tokens").get<int64_t>() - 31);
  CHECK(summary.at("shards") == nlohmann::json{"train-00000.bin", "val-00000.bin"});
  CHECK(fs::exists(preparation.out() + "/val-00000.bin"));
  CHECK(contains(finished.err, "31 documents"));
  CHECK(contains(finished.err, "train: [\"" + preparation.out() + "/train-*.bin\"]"));
  CHECK(contains(finished.err, "validation: [\"" + preparation.out() + "/val-*.bin\"]"));
  CHECK_FALSE(fs::exists(preparation.out() + ".partial"));
  CHECK_FALSE(fs::exists(preparation.out() + "/.lock"));
}

TEST_CASE("prepare: train goes on from the set") {
  const TinyRun tiny;
  const std::string text = tiny.folder().write("story.txt", story(400));
  const std::string out = tiny.folder().path() + "/set";
  const Finished finished =
      run({program("prepare"), "--tokenizer", "bytes", "--out", out, "--document-separator", "\n",
           "--validation-documents", "20", text});
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  tiny.trained({"data.grammar=null", "data.train=[" + out + "/train-*.bin]",
                "data.validation=[" + out + "/val-*.bin]", "schedule.stop_step=2"});
  CHECK(tiny.last_step() == 2);
}

// As tools/recipes/llama-c4.yaml says, with fewer documents, another vocabulary and fewer rows.
TEST_CASE("prepare: C4's files as they are downloaded become the set of a recipe") {
  const Preparation files;
  const auto set = [&](const std::string& name, int documents, const Words& more) {
    std::string lines;
    for (int i = 0; i < documents; ++i) {
      const nlohmann::json line = {{"text", story(1 + i * 5 % 40)},
                                   {"timestamp", "2019-04-25T12:57:54Z"},
                                   {"url", "https://example.org/" + std::to_string(i)}};
      lines += line.dump() + "\n";
    }
    const std::string json = files.folder().write("c4-" + name + ".00000-of-00001.json", lines);
    REQUIRE(run({"gzip", json}).exit_code == 0);
    Words command = {program("prepare"), "--tokenizer",
                     "sentencepiece:" SOURCE_DIRECTORY "/tests/golden/tokenizer.model"};
    command.insert(command.end(), {"--row-length", "256", "--pad"});
    command.insert(command.end(), more.begin(), more.end());
    command.insert(command.end(), {"--out", files.path(name), json + ".gz"});
    const Finished finished = run(command);
    INFO(finished.err);
    REQUIRE(finished.exit_code == 0);
    return finished.err;
  };
  CHECK(contains(set("c4", 20, {}), "data: {train: [\"" + files.path("c4") + "/train-*.bin\"]}"));
  CHECK(contains(set("c4-validation", 5, {"--validation-fraction", "1"}),
                 "data: {validation: [\"" + files.path("c4-validation") + "/val-*.bin\"]}"));
  const Finished trained = run(
      {program("train"), SOURCE_DIRECTORY "/tools/recipes/llama-60m-lns.yaml",
       "run.directory=" + files.path("run"), "data.train=[" + files.path("c4") + "/train-*.bin]",
       "data.validation=[" + files.path("c4-validation") + "/val-*.bin]",
       "batch={tokens_per_step: 512, micro_batch: 1}", "schedule.stop_step=2",
       "evaluation.reference_batch=2"});
  INFO(trained.err);
  REQUIRE(trained.exit_code == 0);
  const auto row =
      nlohmann::json::parse(run({"tail", "-n", "1", files.path("run/metrics.jsonl")}).out);
  CHECK(row.at("validation_loss") > 5);
  CHECK(row.at("ppl_cod") > 1);
}

TEST_CASE("prepare: the set does not depend on the number of threads, nor on how text is packed") {
  const Preparation preparation;
  const std::string lines = json_lines(3000);
  const std::string plain = preparation.folder().write("a.jsonl", lines);
  REQUIRE(run({"sh", "-c", "gzip -c " + plain + " > " + plain + ".gz"}).exit_code == 0);
  const Words options = {"--shard-tokens", "200000", "--validation-documents", "7", "--threads"};
  const auto made_by = [&](const std::string& threads, const std::string& file) {
    Words words = options;
    words.insert(words.end(), {threads, file});
    const Finished finished = preparation.shell(file == "-" ? "cat " + plain + " |" : "", words);
    INFO(finished.err);
    CHECK(finished.exit_code == 0);
    auto tree = tree_of(preparation.out());
    fs::remove_all(preparation.out());
    return tree;
  };
  const auto one = made_by("1", plain);
  CHECK(one.size() > 8);
  CHECK(made_by("3", plain) == one);
  CHECK(made_by("2", plain + ".gz") == one);
  CHECK(made_by("2", "-") == one);
}

TEST_CASE("prepare: rows, ids and separators") {
  const Preparation preparation;
  const std::string ids =
      preparation.folder().write("ids.jsonl",
                                 "{\"n\": {\"ids\": [1, 2, 3]}}\n{\"n\": {\"ids\": "
                                 "[4]}}\n");
  REQUIRE(
      preparation.prepare({"--ids-key", "n.ids", "--row-length", "2", "--pad", ids}).exit_code ==
      0);
  const std::string shard = content(preparation.out() + "/train-00000.bin");
  CHECK(shard.substr(1024) == std::string("\1\0\2\0\4\0\0\1", 8));
  CHECK(content(preparation.out() + "/train-00000.bin.lengths") ==
        std::string("\2\0\0\0\1\0\0\0", 8));
  fs::remove_all(preparation.out());
  REQUIRE(preparation.shell("printf 'a;b' |", {"--document-separator", ";", "-"}).exit_code == 0);
  CHECK(content(preparation.out() + "/train-00000.bin").substr(1024) ==
        std::string("a\0\0\1b\0\0\1", 8));
}

TEST_CASE("prepare: bad input is named, exit code 2, and nothing is left") {
  const Preparation preparation;
  const auto write = [&](const std::string& name, const std::string& bytes) {
    return preparation.folder().write(name, bytes);
  };
  const std::string good = write("good.jsonl", "{\"text\": \"a\"}\n");
  const auto rejected = [&](const std::string& file, const Words& parts) {
    preparation.check_rejected({good, file}, parts);
  };
  rejected(write("empty.txt", ""), {"empty.txt: empty"});
  rejected(preparation.path("none.txt"), {"none.txt: no such file"});
  rejected(write("bad.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\n"), {"bad.jsonl:2: malformed"});
  rejected(write("key.jsonl", "{\"body\": \"a\"}\n"), {"key.jsonl:1: no key \"text\"", "body"});
  rejected(write("type.jsonl", "{\"text\": 3}\n"), {"type.jsonl:1: \"text\" is number"});
  rejected(write("utf8.jsonl", "{\"text\": \"\xFF\"}\n"), {"utf8.jsonl:1: malformed", "UTF-8"});
  rejected(write("a.txt.zst", std::string("\x28\xB5\x2F\xFD\x20\3\x19\0\0ab", 11)),
           {"a.txt.zst: truncated zstd (it ends at byte 11"});
  const std::string gzip = preparation.path("a.jsonl.gz");
  REQUIRE(run({"sh", "-c", "gzip -c " + good + " | head -c 30 > " + gzip}).exit_code == 0);
  rejected(gzip, {"a.jsonl.gz: truncated gzip (it ends at byte 30"});
}

TEST_CASE("prepare: ids outside the vocabulary are named with file and line") {
  const Preparation preparation;
  const std::string ids =
      preparation.folder().write("ids.jsonl", "{\"ids\": [1]}\n{\"ids\": [257]}\n");
  preparation.check_rejected({"--ids-key", "ids", ids}, {ids + ":2: id 257", "257 tokens"});
}

TEST_CASE("prepare: the command line is checked") {
  const Preparation preparation;
  const std::string file = preparation.folder().write("a.jsonl", json_lines(3));
  preparation.check_rejected({"--pad", file}, {"--row-length", "--pad"});
  preparation.check_rejected({"--row-length", "5", file}, {"--row-length", "--pad"});
  preparation.check_rejected({"--validation-fraction", "1.5", file}, {"--validation-fraction"});
  preparation.check_rejected({"--validation-documents", "3", file}, {"3 documents", "training"});
  preparation.check_rejected({"--validation-documents", "-1", file}, {"--validation-documents"});
  preparation.check_rejected({"--shard-tokens", "0", file}, {"--shard-tokens"});
  preparation.check_rejected({"--bogus", file}, {"--bogus", "--help"});
  preparation.check_rejected({}, {"files"});
  const Finished unknown =
      run({program("prepare"), "--tokenizer", "words", "--out", preparation.out(), file});
  CHECK(unknown.exit_code == 2);
  CHECK(contains(unknown.err, "words"));
  CHECK_FALSE(fs::exists(preparation.out()));
}

TEST_CASE("prepare: what is there is not overwritten") {
  const Preparation preparation;
  const std::string file = preparation.folder().write("a.jsonl", json_lines(3));
  preparation.folder().write("out/mine.txt", "mine");
  preparation.check_rejected({file}, {preparation.out() + ": there already (and not empty)"});
  fs::remove_all(preparation.out());
  preparation.folder().write("out", "a file");
  preparation.check_rejected({file}, {preparation.out() + ": there already"});
  fs::remove(preparation.out());
  fs::create_directory(preparation.out());
  CHECK(preparation.prepare({file}).exit_code == 0);
  CHECK(fs::exists(preparation.out() + "/manifest.json"));
}

TEST_CASE("prepare: killed in the middle, nothing looks whole, and the next run works") {
  const Preparation preparation;
  {
    WaitingPrepare waiting(preparation);
    waiting.process().signal(SIGKILL);
    CHECK(waiting.process().wait().exit_code == 128 + SIGKILL);
  }
  CHECK_FALSE(fs::exists(preparation.out()));
  CHECK(fs::exists(preparation.out() + ".partial/train-00000.bin"));
  CHECK_FALSE(fs::exists(preparation.out() + ".partial/manifest.json"));
  const Finished next =
      preparation.prepare({preparation.folder().write("a.jsonl", json_lines(10))});
  INFO(next.err);
  CHECK(next.exit_code == 0);
  CHECK(contains(next.err, "removed what an interrupted run has left"));
  CHECK_FALSE(fs::exists(preparation.out() + ".partial"));
  CHECK_FALSE(fs::exists(preparation.out() + "/train-00001.bin"));
}

TEST_CASE("prepare: a signal ends it at once, also while a pipe is silent, and nothing is kept") {
  for (const int number : {SIGTERM, SIGINT, SIGUSR1}) {
    const Preparation preparation;
    WaitingPrepare waiting(preparation);
    waiting.process().signal(number);
    const Finished finished = waiting.process().wait();
    INFO(finished.err);
    CHECK(finished.exit_code == 75);
    CHECK(contains(finished.err, "stopped by SIG"));
    CHECK_FALSE(fs::exists(preparation.out()));
    CHECK_FALSE(fs::exists(preparation.out() + ".partial"));
  }
}

TEST_CASE("prepare: a set that another process is writing is left alone") {
  const Preparation preparation;
  const std::string file = preparation.folder().write("a.jsonl", json_lines(10));
  WaitingPrepare waiting(preparation);
  const auto before = tree_of(preparation.out() + ".partial");
  const Finished second = preparation.prepare({file});
  INFO(second.err);
  CHECK(second.exit_code == 2);
  CHECK(contains(second.err, "process " + std::to_string(waiting.process().id())));
  CHECK(waiting.process().running());
  const auto after = tree_of(preparation.out() + ".partial");
  for (const auto& [name, bytes] : before) {
    INFO(name);
    // A shard that was growing may be complete by now.
    CHECK((after.contains(name) || contains(name, ".bin.partial-")));
  }
}

TEST_CASE("prepare: a disk that takes no more is an error of its own, and nothing is left") {
  const Preparation preparation;
  const std::string file = preparation.folder().write("a.jsonl", json_lines(1000));
  // A limit on the size of files, in blocks of 512 bytes, fails as a full disk does.
  const Finished finished = preparation.shell("trap '' XFSZ; ulimit -f 64; exec", {file});
  INFO(finished.err);
  CHECK(finished.exit_code == 1);
  CHECK(contains(finished.err, "train-00000.bin: could not be written (File too large)"));
  CHECK_FALSE(fs::exists(preparation.out()));
  CHECK_FALSE(fs::exists(preparation.out() + ".partial"));
}

TEST_CASE("prepare: memory does not grow with the corpus") {
  if (SANITIZED) return;  // they keep memory of their own
  const Preparation preparation, small;
  const std::string line = "{\"text\": \"" + std::string(1000, 'x') + "\"}";
  // What the program and its libraries take: in a build with CUDA that is much.
  const int64_t least =
      small.shell("yes '" + line + "' | head -n 20 |", {"--threads", "2", "-"}).peak_bytes;
  const Finished finished =
      preparation.shell("yes '" + line + "' | head -n 200000 |", {"--threads", "2", "-"});
  INFO(finished.err);
  CHECK(finished.exit_code == 0);
  for (const char* shard : {"/train-00000.bin", "/train-00001.bin"}) {
    CHECK(fs::file_size(preparation.out() + shard) > 199'000'000);
  }
  constexpr int64_t kMebibyte = 1 << 20;
  INFO(finished.peak_bytes << " bytes, and " << least << " for 20 documents");
  CHECK(finished.peak_bytes < least + 40 * kMebibyte);
}
