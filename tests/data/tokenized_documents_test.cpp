#include "data/tokenized_documents.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "catch.h"
#include "tests/data/temporary_directory.h"

namespace normlab {
namespace {

using test::TemporaryDirectory;
using Arrival = TokenizedDocuments::Arrival;
constexpr std::chrono::minutes kLong{1};

const std::unique_ptr<Tokenizer> kBytes = make_tokenizer("bytes");

// Bytes, at a pace that changes from document to document, so that threads overtake each other.
class UnevenTokenizer final : public Tokenizer {
 public:
  std::vector<uint16_t> encode(std::string_view text) const override {
    std::this_thread::sleep_for(std::chrono::microseconds(text.size() % 7 * 50));
    return kBytes->encode(text);
  }
  std::string decode(const std::vector<uint16_t>& tokens) const override {
    return kBytes->decode(tokens);
  }
  int64_t vocabulary() const override { return kBytes->vocabulary(); }
  int32_t end_of_text() const override { return kBytes->end_of_text(); }
  std::string name() const override { return kBytes->name(); }
  uint64_t hash() const override { return kBytes->hash(); }
};

// Of documents whose lengths go up and down, some of them longer than a batch.
std::string lines(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    const size_t length = i % 50 == 49 ? 400'000 : static_cast<size_t>(i * i % 4001);
    text += "{\"text\": \"" + std::to_string(i) + std::string(length, 'x') + "\"}\n";
  }
  return text;
}

struct Drained {
  std::vector<std::vector<uint16_t>> documents;
  std::vector<size_t> batches;  // how many documents each had
  int64_t text_bytes = 0;
  int64_t bytes_read = 0;
};

Drained drained(const std::string& file, int threads) {
  const UnevenTokenizer tokenizer;
  TokenizedDocuments source({file}, {}, tokenizer, threads);
  Drained all;
  TokenizedBatch batch;
  while (source.next(batch, kLong) == Arrival::batch) {
    all.batches.push_back(batch.documents.size());
    for (auto& document : batch.documents) all.documents.push_back(std::move(document));
    all.text_bytes += batch.text_bytes;
    all.bytes_read = batch.bytes_read;
    CHECK(batch.bytes_read <= source.bytes_total());
  }
  CHECK(source.next(batch, kLong) == Arrival::end);
  CHECK(all.bytes_read == source.bytes_total());
  return all;
}

TEST_CASE("tokenized_documents: all documents in order, whatever the number of threads") {
  const TemporaryDirectory directory;
  const std::string file = directory.file("a.jsonl");
  constexpr int kCount = 1200;
  test::write_bytes(file, lines(kCount));
  const Drained one = drained(file, 1);
  REQUIRE(one.documents.size() == kCount);
  int64_t bytes = 0;
  for (int i = 0; i < kCount; ++i) {
    const std::string text = kBytes->decode(one.documents[static_cast<size_t>(i)]);
    CHECK(text.substr(0, text.find('x')) == std::to_string(i));
    bytes += static_cast<int64_t>(text.size());
  }
  CHECK(one.text_bytes == bytes);
  CHECK(one.batches.size() > 10);
  const Drained three = drained(file, 3);
  CHECK((three.documents == one.documents));  // not to be printed
  CHECK(three.batches == one.batches);
}

TEST_CASE("tokenized_documents: what comes before an error comes, then the error") {
  const TemporaryDirectory directory;
  const std::string file = directory.file("a.jsonl");
  test::write_bytes(file, lines(300) + "{\n");
  TokenizedDocuments source({file}, {}, *kBytes, 2);
  size_t documents = 0;
  const std::string error = test::input_error_of([&] {
    TokenizedBatch batch;
    while (source.next(batch, kLong) == Arrival::batch) documents += batch.documents.size();
  });
  CHECK(test::contains(error, file + ":301: malformed JSON"));
  CHECK(documents > 100);
}

TEST_CASE("tokenized_documents: a silent pipe is reported as later, and left without waiting") {
  const TemporaryDirectory directory;
  const std::string pipe = directory.file("pipe.jsonl");
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  const int writer = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(writer >= 0);
  {
    TokenizedDocuments source({pipe}, {}, *kBytes, 2);
    TokenizedBatch batch;
    CHECK(source.next(batch, std::chrono::milliseconds(20)) == Arrival::later);
  }
  ::close(writer);
}

TEST_CASE("tokenized_documents: ids lie within the tokenizer's vocabulary") {
  const TemporaryDirectory directory;
  const std::string file = directory.file("a.jsonl");
  test::write_bytes(file, "{\"ids\": [1, 256]}\n{\"ids\": [257]}\n");
  SourceOptions options;
  options.ids_key = "ids";
  TokenizedDocuments source({file}, options, *kBytes, 1);
  TokenizedBatch batch;
  const std::string error = test::input_error_of([&] {
    while (source.next(batch, kLong) == Arrival::batch) continue;
  });
  CHECK(test::contains(error, file + ":2: id 257"));
}

}  // namespace
}  // namespace normlab
