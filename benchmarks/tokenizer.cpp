// Tokenises documents on one thread and says how fast. benchmarks/peers/tokenizer.py compares.
#include "data/tokenizer.h"

#include <chrono>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "tools/main.h"

namespace normlab {
namespace {

// Each a uint32 (little-endian) and as many bytes of text.
std::vector<std::string> read_documents(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  std::vector<std::string> documents;
  uint32_t bytes = 0;
  while (stream.read(reinterpret_cast<char*>(&bytes), sizeof(bytes))) {
    std::string& document = documents.emplace_back(bytes, '\0');
    if (!stream.read(document.data(), bytes)) break;
  }
  if (!stream.eof() || stream.gcount() != 0) {
    throw input_error(file +
                      ": documents could not be read (each is its length as a "
                      "little-endian uint32, and its text). Write the file anew");
  }
  return documents;
}

// The ids of each document and end-of-text, as uint16.
void write_ids(const std::string& file, const std::vector<std::vector<uint16_t>>& documents,
               int32_t end_of_text) {
  std::ofstream stream(file, std::ios::binary);
  for (std::vector<uint16_t> ids : documents) {
    ids.push_back(static_cast<uint16_t>(end_of_text));
    stream.write(reinterpret_cast<const char*>(ids.data()),
                 static_cast<std::streamsize>(ids.size() * sizeof(uint16_t)));
  }
  if (!stream.flush()) throw Error(file + ": could not be written. Look after the disk");
}

int measure(const std::string& name, const std::string& file, const std::string& ids_file) {
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(name);
  const std::vector<std::string> documents = read_documents(file);
  std::vector<std::vector<uint16_t>> ids(documents.size());
  const std::clock_t processor_begin = std::clock();
  const auto begin = std::chrono::steady_clock::now();
  for (size_t i = 0; i < documents.size(); ++i) ids[i] = tokenizer->encode(documents[i]);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  const double processor_seconds =
      static_cast<double>(std::clock() - processor_begin) / CLOCKS_PER_SEC;
  size_t bytes = 0;
  size_t tokens = 0;
  for (const std::string& document : documents) bytes += document.size();
  for (const auto& document : ids) tokens += document.size();
  if (!ids_file.empty()) write_ids(ids_file, ids, tokenizer->end_of_text());
  const double seconds = elapsed.count();
  std::cout << "{\"bytes\": " << bytes << ", \"tokens\": " << tokens << ", \"seconds\": " << seconds
            << ", \"processor_seconds\": " << processor_seconds
            << ", \"megabytes_per_second\": " << static_cast<double>(bytes) / 1e6 / seconds
            << "}\n";
  return kExitDone;
}

}  // namespace
}  // namespace normlab

int main(int argc, char* argv[]) {
  CLI::App app{
      "Tokenises documents on one thread; prints bytes, tokens, seconds and MB/s as JSON.\n"
      "Example: benchmark_tokenizer gpt2:DIR documents.bin --ids ids.u16",
      "benchmark_tokenizer"};
  std::string name;
  std::string file;
  std::string ids;
  app.add_option("tokenizer", name, "bytes, gpt2:DIR or sentencepiece:FILE")->required();
  app.add_option("documents", file, "each its length (uint32, little-endian) and its text")
      ->required();
  app.add_option("--ids", ids, "where the ids go (uint16), each document ended by end-of-text");
  return normlab::run_main(app, argc, argv, [&] { return normlab::measure(name, file, ids); });
}
