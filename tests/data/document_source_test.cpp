#include "data/document_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "catch.h"
#include "kernels/random.h"
#include "tests/data/packed.h"
#include "tests/data/temporary_directory.h"

namespace normlab {
namespace {

using test::contains;
using test::gzip_of;
using test::input_error_of;
using test::TemporaryDirectory;
using test::zstd_by_hand;
using test::zstd_of;
using Texts = std::vector<std::string>;

std::string put(const TemporaryDirectory& directory, const std::string& name,
                const std::string& bytes) {
  test::write_bytes(directory.file(name), bytes);
  return directory.file(name);
}

Texts texts_of(const Texts& files, const SourceOptions& options = {}) {
  const auto source = open_documents(files, options);
  Texts texts;
  for (Document document; source->next(document);) texts.push_back(document.text);
  CHECK(source->bytes_read() == source->bytes_total());
  return texts;
}

// Of one file that holds these bytes.
Texts texts_in(const std::string& name, const std::string& bytes,
               const SourceOptions& options = {}) {
  const TemporaryDirectory directory;
  return texts_of({put(directory, name, bytes)}, options);
}

std::string error_in(const std::string& name, const std::string& bytes,
                     const SourceOptions& options = {}) {
  const TemporaryDirectory directory;
  const std::string file = put(directory, name, bytes);
  const std::string error = input_error_of([&] { texts_of({file}, options); });
  INFO(error);
  CHECK(error.starts_with(file + ":"));
  CHECK(!contains(error, "\n"));
  return error.substr(std::min(error.size(), file.size()));
}

SourceOptions with_separator(const std::string& separator) {
  SourceOptions options;
  options.document_separator = separator;
  return options;
}

SourceOptions with_ids(const std::string& key, int64_t vocabulary) {
  SourceOptions options;
  options.ids_key = key;
  options.vocabulary = vocabulary;
  return options;
}

std::string line_of(const std::string& text) { return "{\"text\": \"" + text + "\"}\n"; }

TEST_CASE("document_source: a text file is a document, byte for byte") {
  const std::string bytes("a\0\xFF\r\n\xED\xA0\x80", 8);
  CHECK(texts_in("a.txt", bytes) == Texts{bytes});
  CHECK(texts_in("README", "a\n") == Texts{"a\n"});
}

TEST_CASE("document_source: files come in the order given") {
  const TemporaryDirectory directory;
  const std::string a = put(directory, "a.txt", "first");
  const std::string b = put(directory, "b.jsonl", line_of("x") + line_of("y"));
  CHECK(texts_of({b, a, b}) == Texts{"x", "y", "first", "x", "y"});
}

TEST_CASE("document_source: a separator cuts text, with the line break behind it") {
  const SourceOptions options = with_separator("<|end|>");
  CHECK(texts_in("a.txt", "a<|end|>b<|end|>", options) == Texts{"a", "b"});
  CHECK(texts_in("a.txt", "a\n<|end|>\nb\n<|end|>\r\nc", options) == Texts{"a\n", "b\n", "c"});
  CHECK(texts_in("a.txt", "\na<|end|>\n\nb<|end|>\n", options) == Texts{"\na", "\nb"});
  CHECK(texts_in("a.txt", "<|end|><|end|>a<|en", options) == Texts{"a<|en"});
  CHECK(texts_in("a.txt", "a\n\nb\nc\n\nd", with_separator("\n\n")) == Texts{"a", "b\nc", "d"});
}

TEST_CASE("document_source: a separator is found wherever blocks are cut") {
  const std::string separator = "<|endoftext|>";
  for (const int shift : {0, 1, 5, 12, 13, 14}) {
    const std::string first((1 << 18) - shift, 'x');
    const std::string second((1 << 18) + 7, 'y');
    const std::string text = first + separator + second + separator + "z";
    CHECK(texts_in("a.txt", text, with_separator(separator)) == Texts{first, second, "z"});
  }
}

TEST_CASE("document_source: JSON lines give the text under the key") {
  CHECK(texts_in("a.jsonl", "{\"id\": 1, \"text\": \"a\\n\\u00e9\\u0000\\ud83d\\ude00\"}\n") ==
        Texts{std::string("a\n\u00E9\0\U0001F600", 9)});
  CHECK(texts_in("a.json", line_of("a") + "\r\n  \n\n" + line_of("") + "{\"text\":\"b\"}") ==
        Texts{"a", "", "b"});
  CHECK(texts_in("a.jsonl", "{\"text\": \"a\"}\r\n{\"text\": \"b\"}\r\n") == Texts{"a", "b"});
  CHECK(texts_in("a.jsonl", "{\"text\": \"a\", \"text\": \"b\"}") == Texts{"b"});  // as in Python
  SourceOptions options;
  options.key = "body";
  CHECK(texts_in("a.jsonl", "{\"text\": 1, \"body\": \"b\"}", options) == Texts{"b"});
}

TEST_CASE("document_source: a key with dots goes into objects, or is a key itself") {
  SourceOptions options;
  options.key = "a.b.c";
  CHECK(texts_in("a.jsonl", "{\"a\": {\"b\": {\"c\": \"x\"}}}", options) == Texts{"x"});
  CHECK(texts_in("a.jsonl", "{\"a.b.c\": \"x\", \"a\": 1}", options) == Texts{"x"});
  CHECK(texts_in("a.jsonl", "{\"a\": 1, \"a.b\": {\"c\": \"x\"}}", options) == Texts{"x"});
  CHECK(contains(error_in("a.jsonl", "{\"a\": {\"b\": 1}}", options), "no key \"a.b.c\""));
}

// Python: json.loads(line)["text"].encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
// which is what tiktoken does.
TEST_CASE("document_source: half a surrogate pair becomes U+FFFD") {
  const std::string replacement = "\uFFFD";
  CHECK(texts_in("a.jsonl", line_of("a\\ud800b")) == Texts{"a" + replacement + "b"});
  CHECK(texts_in("a.jsonl", line_of("\\udc00")) == Texts{replacement});
  CHECK(texts_in("a.jsonl", line_of("\\uD83D\\uD83D\\uDE00\\uDE00")) ==
        Texts{replacement + "\U0001F600" + replacement});
  CHECK(texts_in("a.jsonl", line_of("\\\\ud800 \\u00e9 \\uD83D\\\\uDE00")) ==
        Texts{"\\ud800 \u00E9 " + replacement + "\\uDE00"});
}

TEST_CASE("document_source: a byte order mark at the beginning is dropped") {
  const std::string mark = "\xEF\xBB\xBF";
  CHECK(texts_in("a.txt", mark + "a" + mark) == Texts{"a" + mark});
  CHECK(texts_in("a.jsonl", mark + line_of("a")) == Texts{"a"});
  CHECK(texts_in("a.txt.gz", gzip_of(mark + "a")) == Texts{"a"});
  CHECK(texts_in("a.txt", "\xEF\xBB") == Texts{"\xEF\xBB"});
  CHECK(contains(error_in("a.txt", mark), "empty"));
}

TEST_CASE("document_source: gzip and zstd are unpacked, all members and frames") {
  CHECK(texts_in("a.jsonl.gz", gzip_of(line_of("a") + "{\"te") + gzip_of("xt\": \"b\"}\n")) ==
        Texts{"a", "b"});
  CHECK(texts_in("a.jsonl.zst", zstd_of(line_of("a") + "{\"te") + zstd_of("xt\": \"b\"}\n")) ==
        Texts{"a", "b"});
  CHECK(texts_in("a.txt.gz", gzip_of("") + gzip_of("a") + std::string(700, '\0')) == Texts{"a"});
  CHECK(texts_in("a.txt.zst", zstd_of("") + zstd_by_hand("abc") + zstd_of("d")) == Texts{"abcd"});
  // A frame that is skipped (RFC 8878, 3.1.2): magic, size, content.
  const std::string skippable("\x50\x2A\x4D\x18\x03\0\0\0xyz", 11);
  CHECK(texts_in("a.txt.zst", zstd_of("a") + skippable + zstd_of("b")) == Texts{"ab"});
}

TEST_CASE("document_source: what begins as gzip or zstd is unpacked whatever its name") {
  CHECK(texts_in("a.jsonl", gzip_of(line_of("a"))) == Texts{"a"});
  CHECK(texts_in("a.txt", zstd_of("a")) == Texts{"a"});
  CHECK(contains(error_in("a.jsonl.gz", line_of("a")), "corrupt gzip (incorrect header check"));
  CHECK(contains(error_in("a.jsonl.zst", line_of("a")), "corrupt zstd ("));
}

TEST_CASE("document_source: long texts survive packing") {
  std::string text;
  for (int i = 0; i < 250'000; ++i) text += std::to_string(i * 7919 % 100'003) + " ";
  CHECK(texts_in("a.txt.gz", gzip_of(text)) == Texts{text});
  CHECK(texts_in("a.txt.zst", zstd_of(text)) == Texts{text});
  const std::string even(5'000'000, 'x');  // unpacks to far more than a block at a time
  CHECK((texts_in("a.txt.gz", gzip_of(even)) == Texts{even}));
  CHECK((texts_in("a.txt.zst", zstd_of(even)) == Texts{even}));
  // Blocks that do not end where what is asked for does.
  CHECK((texts_in("a.txt.zst", zstd_of("b") + zstd_of(even)) == Texts{"b" + even}));
}

TEST_CASE("document_source: gzip and zstd that end too early are errors at every byte") {
  const std::string text = line_of("a text that is long enough to be packed, packed, packed");
  const std::string gzip = gzip_of(text);
  const std::string zstd = zstd_of(text);
  for (size_t size = 2; size < gzip.size(); ++size) {
    CHECK(contains(error_in("a.jsonl.gz", gzip.substr(0, size)),
                   ": truncated gzip (it ends at byte " + std::to_string(size)));
  }
  for (size_t size = 4; size < zstd.size(); ++size) {
    CHECK(contains(error_in("a.jsonl.zst", zstd.substr(0, size)),
                   ": truncated zstd (it ends at byte " + std::to_string(size)));
  }
  CHECK(contains(error_in("a.txt.gz", gzip + gzip.substr(0, 5)), "truncated gzip"));
  CHECK(contains(error_in("a.txt.zst", zstd + zstd.substr(0, 5)), "truncated zstd"));
}

TEST_CASE("document_source: damaged gzip and zstd are errors that say about where") {
  std::string gzip = gzip_of(std::string(1000, 'a') + "b");
  gzip[gzip.size() - 6] ^= 1;  // of the check value
  CHECK(contains(error_in("a.txt.gz", gzip), ": corrupt gzip (incorrect data check, near byte"));
  CHECK(contains(error_in("a.txt.gz", gzip_of("a") + "garbage"), ": corrupt gzip ("));
  std::string zstd = zstd_by_hand("abc");
  zstd[6] |= 6;  // a block of the reserved type
  CHECK(contains(error_in("a.txt.zst", zstd), ": corrupt zstd ("));
  CHECK(contains(error_in("a.txt.zst", zstd_of("a") + "garbage"), ": corrupt zstd ("));
}

TEST_CASE("document_source: a malformed line is named by its number and quoted in part") {
  const std::string third = line_of("a") + "\n" + "{\"text\": \"abc\n" + line_of("d");
  const std::string error = error_in("a.jsonl", third);
  CHECK(error.starts_with(":3: malformed JSON (at byte "));
  CHECK(contains(error, "it begins {\"text\": \"abc)"));
  const std::string long_line =
      error_in("a.jsonl", "{\"text\": \"" + std::string(100'000, 'x') + "\x1B[0m\"}");
  CHECK(long_line.starts_with(":1: malformed JSON"));
  CHECK(long_line.size() < 400);
  CHECK(error_in("a.jsonl", line_of("\xFF")).starts_with(":1: malformed JSON"));  // no UTF-8
  CHECK(error_in("a.jsonl", line_of("\xED\xA0\x80")).starts_with(":1: malformed JSON"));
  CHECK(error_in("a.jsonl", line_of("\\ud8")).starts_with(":1: malformed JSON"));
  CHECK(error_in("a.jsonl", "{\"text\": \"a\", \"x\": 1e999}").starts_with(":1: malformed JSON"));
  CHECK(error_in("a.jsonl", "{\n\"text\": \"a\"\n}\n").starts_with(":1: malformed JSON"));
  CHECK(error_in("a.jsonl", std::string(100'000, '[')).starts_with(":1: malformed JSON"));
}

TEST_CASE("document_source: a missing key and a key of another type are named") {
  CHECK(contains(error_in("a.jsonl", "{\"id\": 1, \"body\": 2}"),
                 ":1: no key \"text\" (it has body, id)"));
  CHECK(contains(error_in("a.jsonl", "{}"), ":1: no key \"text\" (it has nothing)"));
  CHECK(contains(error_in("a.jsonl", line_of("") + "{\"text\": null}"),
                 ":2: \"text\" is null (a text is wanted)"));
  CHECK(contains(error_in("a.jsonl", "{\"text\": [1]}"), ":1: \"text\" is array"));
  CHECK(contains(error_in("a.jsonl", "[\"a\"]"), ":1: not a JSON object (but array)"));
}

TEST_CASE("document_source: rows of ids are taken as they are and lie in the vocabulary") {
  const TemporaryDirectory directory;
  const std::string rows = put(directory, "a.jsonl", "{\"ids\": [0, 7, 299]}\n{\"ids\": []}\n");
  const auto source = open_documents({rows}, with_ids("ids", 300));
  Document document;
  REQUIRE(source->next(document));
  CHECK(document.ids == std::vector<uint16_t>{0, 7, 299});
  REQUIRE(source->next(document));
  CHECK(document.ids.empty());
  CHECK_FALSE(source->next(document));

  const SourceOptions options = with_ids("ids", 300);
  CHECK(contains(error_in("a.jsonl", "{\"ids\": [1]}\n{\"ids\": [300]}", options),
                 ":2: id 300 lies outside the vocabulary (of 300"));
  CHECK(contains(error_in("a.jsonl", "{\"ids\": [-1]}", options), ":1: id -1 lies outside"));
  CHECK(contains(error_in("a.jsonl", "{\"ids\": [18446744073709551615]}", options), "outside"));
  CHECK(contains(error_in("a.jsonl", "{\"ids\": [1.0]}", options), ":1: \"ids\" holds 1.0"));
  CHECK(contains(error_in("a.jsonl", "{\"ids\": [\"1\"]}", options), ":1: \"ids\" holds \"1\""));
  CHECK(contains(error_in("a.jsonl", "{\"ids\": \"1\"}", options), ":1: \"ids\" is string"));
  CHECK(contains(error_in("a.jsonl", "{\"text\": \"\"}", options), ":1: no key \"ids\""));
  CHECK(contains(error_in("a.txt", "1 2", options), ": text (ids are read from JSON lines only)"));
}

TEST_CASE("document_source: files without a document are errors, before the first is read") {
  const TemporaryDirectory directory;
  const std::string good = put(directory, "a.txt", "a");
  const std::string empty = put(directory, "empty.jsonl", "");
  const std::string missing = directory.file("none.txt");
  const auto error_of = [](const Texts& files) {
    return input_error_of([&] { open_documents(files, {}); });
  };
  CHECK(contains(error_of({good, empty}), empty + ": empty (0 bytes)"));
  CHECK(contains(error_of({good, missing}), missing + ": no such file"));
  CHECK(contains(error_of({good, directory.path.string()}), ": a directory"));
  CHECK(contains(error_of({}), "no text files given"));
  CHECK(contains(error_of({"-", "-"}), "named twice"));
  CHECK(contains(error_in("a.jsonl", "\n \r\n"), ": empty (it holds no document)"));
  CHECK(contains(error_in("a.jsonl.gz", gzip_of("")), ": empty (it holds no document)"));
  CHECK(contains(error_in("a.txt.zst", zstd_of("")), ": empty (it holds no document)"));
  CHECK(contains(error_in("a.txt", ";;", with_separator(";")), ": empty (it holds no document)"));
}

TEST_CASE("document_source: a pipe has no size, and is read until it is closed or told to stop") {
  const TemporaryDirectory directory;
  const std::string pipe = directory.file("pipe.jsonl");
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  std::stop_source stop;
  SourceOptions options;
  options.stop = stop.get_token();
  // Both ways, so that neither end waits for the other to be opened.
  const int writer = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(writer >= 0);
  const auto source = open_documents({pipe}, options);
  CHECK(source->bytes_total() == 0);
  const std::string line = line_of("a");
  REQUIRE(::write(writer, line.data(), line.size()) == static_cast<ssize_t>(line.size()));
  Document document;
  // The first block is handed on as it comes, not when it is full.
  REQUIRE(source->next(document));
  CHECK(document.text == "a");
  stop.request_stop();
  CHECK_FALSE(source->next(document));
  ::close(writer);
}

// Puts bytes in, takes bytes out, and turns bits.
std::string mutated(std::string bytes, uint64_t& random) {
  const auto below = [&](size_t count) {
    return static_cast<size_t>(random = mix(random)) % count;
  };
  for (size_t changes = 1 + below(4); changes > 0 && !bytes.empty(); --changes) {
    const size_t place = below(bytes.size());
    const size_t kind = below(4);
    if (kind == 0) bytes.erase(place, 1 + below(8));
    if (kind == 1) bytes.insert(place, 1 + below(8), static_cast<char>(below(256)));
    if (kind >= 2) bytes[place] = static_cast<char>(bytes[place] ^ 1 << below(8));
  }
  return bytes;
}

TEST_CASE("document_source: whatever a file holds, it ends with documents or with an input error") {
  const TemporaryDirectory directory;
  const std::string lines =
      line_of("a\\u00e9\\ud83d\\ude00") + "{\"text\": \"b\", \"n\": [1, {}]}\n";
  const std::vector<std::pair<std::string, std::string>> seeds = {
      {"a.jsonl", lines}, {"a.jsonl.gz", gzip_of(lines)}, {"a.jsonl.zst", zstd_of(lines)}};
  constexpr int kMutations = 3000;
  uint64_t random = 1;
  int errors = 0;
  for (const auto& [name, bytes] : seeds) {
    for (int i = 0; i < kMutations; ++i) {
      // A file of its own: one that is cut short and written anew waits for the disk.
      const std::string file = put(directory, std::to_string(i) + name, mutated(bytes, random));
      try {
        const auto source = open_documents({file}, {});
        for (Document document; source->next(document);) continue;
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::input) FAIL(name << " " << i << ": " << error.what());
        ++errors;
      }
    }
  }
  CHECK(errors > kMutations);
}

TEST_CASE("document_source: a name tells JSON lines") {
  for (const char* name : {"a.jsonl", "a.json", "a.jsonl.gz", "d.txt/a.json.zst"}) {
    CHECK(holds_json_lines(name));
  }
  for (const char* name : {"a.txt", "a.jsonl.txt", "a.gz", "jsonl", "a.jsonl/b"}) {
    CHECK_FALSE(holds_json_lines(name));
  }
}

}  // namespace
}  // namespace normlab
