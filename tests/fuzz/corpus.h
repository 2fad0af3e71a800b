// Files that libFuzzer found to reach code that no other reaches: tests/fuzz/corpus, one archive a
// format, made by tests/fuzz/explore.
#pragma once

#include <string>
#include <vector>

namespace normlab::fuzz {

// None where there is no archive.
std::vector<std::string> read_corpus(const std::string& archive);
// gzip over, for each file, its length in decimal, a newline and its bytes.
void write_corpus(const std::string& archive, const std::vector<std::string>& files);

// Where the archive of a format is.
std::string corpus_archive(const std::string& format);

}  // namespace normlab::fuzz
