#include "data/text_reader.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "catch.h"
#include "kernels/error.h"
#include "tests/data/corpora.h"
#include "tests/data/packed.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;
using namespace test;

struct TemporaryDirectory {
  TemporaryDirectory() {
    std::string name = (fs::temp_directory_path() / "normlab_text_XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~TemporaryDirectory() { fs::remove_all(path); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name, std::ios::binary) << text;
    return (path / name).string();
  }
  fs::path path;
};

const std::unique_ptr<Tokenizer> kBytes = make_tokenizer("bytes");

std::string document(const TokenCorpus& corpus, size_t index) {
  const auto [begin, end] = Documents(corpus)[static_cast<int64_t>(index)];
  std::vector<uint16_t> tokens(static_cast<size_t>(end - begin));
  corpus.copy(begin, tokens);
  REQUIRE(!tokens.empty());
  CHECK(tokens.back() == 256);
  CHECK(std::count(tokens.begin(), tokens.end(), 256) == 1);
  return kBytes->decode(tokens);
}

std::string error_of(const std::vector<std::string>& files, double validation_fraction) {
  try {
    read_text(files, *kBytes, validation_fraction);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return "no error";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("text_reader: every file is a document, ended by end-of-text, in the order given") {
  const TemporaryDirectory directory;
  const std::string a = directory.write("a.txt", std::string("one\0\xFF\r\n", 7));
  const std::string b = directory.write("b.txt", "two");
  const TokenCorpus corpus = read_text({b, a}, *kBytes);
  REQUIRE(starts_of(corpus) == std::vector<int64_t>{0, 4});
  CHECK(document(corpus, 0) == "two");
  CHECK(document(corpus, 1) == std::string("one\0\xFF\r\n", 7));
  CHECK(corpus.description().vocabulary == 257);
  CHECK(corpus.description().end_of_text == 256);
  CHECK(corpus.description().tokenizer == "bytes");
  CHECK(corpus.description().tokenizer_hash == kBytes->hash());
  CHECK(corpus.hash() != read_text({a, b}, *kBytes).hash());
}

TEST_CASE("text_reader: the two parts of a split are the file, nothing lost and nothing twice") {
  const TemporaryDirectory directory;
  std::string text;
  for (int line = 0; line < 1000; ++line) text += "line " + std::to_string(line) + "\n";
  const std::string file = directory.write("a.txt", text);
  const SplitCorpus split = read_text({file}, *kBytes, 0.1);
  const std::string train = document(split.train, 0);
  const std::string validation = document(split.validation, 0);
  CHECK(train + validation == text);
  CHECK(train.back() == '\n');  // moved to a line break
  CHECK(std::abs(static_cast<double>(validation.size()) - 0.1 * text.size()) < 20);
}

TEST_CASE("text_reader: each file is split") {
  const TemporaryDirectory directory;
  const std::string a = directory.write("a.txt", "aaaaaaaaaa");
  const std::string b = directory.write("b.txt", "bbbbbbbbbbbbbbbbbbbb");
  const SplitCorpus split = read_text({a, b}, *kBytes, 0.3);
  CHECK(document(split.train, 0) == "aaaaaaa");
  CHECK(document(split.validation, 0) == "aaa");
  CHECK(document(split.train, 1) == "bbbbbbbbbbbbbb");
  CHECK(document(split.validation, 1) == "bbbbbb");
}

TEST_CASE("text_reader: the cut moves to the next line break only where one is near") {
  const TemporaryDirectory directory;
  const auto validation = [&](const std::string& text) {
    return document(read_text({directory.write("a.txt", text)}, *kBytes, 0.5).validation, 0);
  };
  CHECK(validation("aaaaaaaaab\nbbbbbbbbb") == "bbbbbbbbb");     // a byte past the middle
  CHECK(validation("aaaaaaaaa\nbbbbbbbbbb") == "bbbbbbbbbb");    // the middle begins a line
  CHECK(validation("aaaaaaaaa\nb\nbbbbbbbb") == "b\nbbbbbbbb");  // also where another is near
  CHECK(validation("aaaaaaaaaabbbbbbbb\nb") == "bbbbbbbb\nb");   // would take most of the part
  CHECK(validation("aaaa\naaaaabbbbbbbbbb") == "bbbbbbbbbb");    // behind the middle
  CHECK(validation("aaaaa\u00E9bbbbb") == "bbbbb");              // never inside a character
  CHECK(validation("\x80\x80\x80\x80") == "\x80\x80");           // no UTF-8 at all
  CHECK(validation("a\n") == "\n");
}

TEST_CASE("text_reader: a fraction of 0 leaves validation empty") {
  const TemporaryDirectory directory;
  const SplitCorpus split = read_text({directory.write("a.txt", "a")}, *kBytes, 0);
  CHECK(document(split.train, 0) == "a");
  CHECK(split.validation.size() == 0);
  CHECK(split.validation.starts().empty());
  CHECK(split.validation.description().vocabulary == 257);
}

TEST_CASE("text_reader: what cannot be read or split is an input error that names the file") {
  const TemporaryDirectory directory;
  const std::string missing = (directory.path / "no.txt").string();
  CHECK(contains(error_of({missing}, 0), missing + ": no such file"));
  CHECK(
      contains(error_of({directory.path.string()}, 0), directory.path.string() + ": a directory"));
  const std::string empty = directory.write("empty.txt", "");
  CHECK(contains(error_of({empty}, 0), empty + ": empty"));
  const std::string brief = directory.write("brief.txt", "abc");
  CHECK(contains(error_of({brief}, 0.1), brief + ": too short to split (3 bytes"));
  CHECK(contains(error_of({brief}, 0.9), brief + ": too short to split (3 bytes"));
  CHECK(contains(error_of({brief}, 1.0), "validation_fraction"));
  CHECK(contains(error_of({brief}, -0.1), "validation_fraction"));
  CHECK(contains(error_of({brief}, std::nan("")), "validation_fraction"));
  CHECK(contains(error_of({}, 0.1), "no text files given"));
}

TEST_CASE("text_reader: a file without the right to read is an input error") {
  const TemporaryDirectory directory;
  const std::string file = directory.write("secret.txt", "abc");
  chmod(file.c_str(), 0);
  if (access(file.c_str(), R_OK) == 0) return;  // root may read everything
  CHECK(contains(error_of({file}, 0), file + ": cannot be read"));
}

TEST_CASE("text_reader: JSON lines are a document each, of which the last are for validation") {
  const TemporaryDirectory directory;
  std::string lines;
  for (const char* text : {"a", "b", "c", "d", "e"}) {
    lines += "{\"text\": \"" + std::string(text) + "\"}\n";
  }
  const std::string file = directory.write("a.jsonl", lines);
  const SplitCorpus split = read_text({file}, *kBytes, 0.4);
  CHECK(tokens_of(split.train) == std::vector<uint16_t>{'a', 256, 'b', 256, 'c', 256});
  CHECK(tokens_of(split.validation) == std::vector<uint16_t>{'d', 256, 'e', 256});
  const TokenCorpus all = read_text({directory.write("b.txt", "x\ny"), file}, *kBytes);
  CHECK(document(all, 0) == "x\ny");
  CHECK(document(all, 1) == "a");
  CHECK(document(all, 5) == "e");
  CHECK(contains(error_of({file}, 0.05), file + ": too few documents to split (5"));
  CHECK(contains(error_of({file}, 0.95), file + ": too few documents to split (5"));
}

TEST_CASE("text_reader: packed texts are unpacked before they are split") {
  const TemporaryDirectory directory;
  const std::string text = "aaaaaaaaa\nbbbbbbbbbb";
  for (const std::string& file :
       {directory.write("a.txt.gz", gzip_of(text)), directory.write("a.txt.zst", zstd_of(text))}) {
    const SplitCorpus split = read_text({file}, *kBytes, 0.5);
    CHECK(document(split.train, 0) == "aaaaaaaaa\n");
    CHECK(document(split.validation, 0) == "bbbbbbbbbb");
  }
}

TEST_CASE("text_reader: make_corpus keeps empty documents apart") {
  const TokenCorpus corpus = make_corpus({"a", "", "b"}, *kBytes);
  CHECK(starts_of(corpus) == std::vector<int64_t>{0, 2, 3});
  CHECK(tokens_of(corpus) == std::vector<uint16_t>{'a', 256, 256, 'b', 256});
}

}  // namespace
}  // namespace normlab
