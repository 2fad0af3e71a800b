// Gives broken files to the readers of each format (of all of them by default); prints each file
// that a reader fails on, keeps it in DIR (where the program runs), and ends with 1 where there was
// one. --read gives one file as it is, in this process, for a debugger. For tests/fuzz/explore,
// --unpack writes the files that broken ones are made of to DIR/files and the tokens, as
// libFuzzer's dictionary, to DIR/tokens; --pack makes the files of DIR the format's corpus.
#include <algorithm>
#include <filesystem>
#include <iostream>

#include "tests/engine/temporary_folder.h"
#include "tests/fuzz/corpus.h"
#include "tests/fuzz/harness.h"

namespace normlab::fuzz {
namespace {

constexpr const char* kUsage =
    "fuzz [FORMAT…] [--files N] [--seconds S] [--seed K] [--first I] [--keep DIR]\n"
    "fuzz FORMAT --read FILE | --unpack DIR | --pack DIR";

struct Options {
  std::vector<std::string> formats;
  Limits limits;
  std::string keep = ".";
  std::string read, unpack, pack;
};

Options parse(const std::vector<std::string>& arguments) {
  Options options;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!argument.starts_with("--")) {
      options.formats.push_back(argument);
      continue;
    }
    if (i + 1 == arguments.size()) {
      throw std::invalid_argument(argument + " stands alone; usage:\n" + kUsage);
    }
    const std::string& value = arguments[++i];
    if (argument == "--files")
      options.limits.files = std::stoull(value);
    else if (argument == "--seconds")
      options.limits.seconds = std::stod(value);
    else if (argument == "--seed")
      options.limits.seed = std::stoull(value);
    else if (argument == "--first")
      options.limits.first = std::stoull(value);
    else if (argument == "--keep")
      options.keep = value;
    else if (argument == "--read")
      options.read = value;
    else if (argument == "--unpack")
      options.unpack = value;
    else if (argument == "--pack")
      options.pack = value;
    else
      throw std::invalid_argument(argument + " is not known; usage:\n" + kUsage);
  }
  if (options.formats.empty()) options.formats = format_names();
  return options;
}

// Whether no reader failed.
bool fuzz_format(const std::string& name, const Options& options) {
  const test::TemporaryFolder folder;
  const Format format = make_format(name, folder.path());
  const Report report = fuzz(format, options.limits);
  for (const Failure& failure : report.failures) {
    const std::string kept =
        options.keep + "/fuzz-" + name + "-" + std::to_string(failure.number) + ".input";
    write_bytes(kept, failure.file);
    std::cout << "FAILED " << name << ": file " << failure.number << " of seed "
              << options.limits.seed << " (" << kept << "): " << failure.reason << "\n";
  }
  std::cout << name << ": " << report.files << " files of seed " << options.limits.seed << ", "
            << report.accepted << " accepted, " << report.failures.size() << " failures"
            << std::endl;
  return report.failures.empty() && report.files > 0;
}

void unpack(const Format& format, const std::string& folder) {
  std::filesystem::create_directories(folder + "/files");
  for (size_t i = 0; i < format.files.size(); ++i) {
    write_bytes(folder + "/files/" + std::to_string(i), format.files[i]);
  }
  std::string dictionary;
  for (const std::string& token : format.tokens) {
    dictionary += '"';
    for (const unsigned char byte : token) {
      dictionary +=
          std::string("\\x") + "0123456789abcdef"[byte / 16] + "0123456789abcdef"[byte % 16];
    }
    dictionary += "\"\n";
  }
  write_bytes(folder + "/tokens", dictionary);
}

void pack(const std::string& folder, const std::string& format) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> files;
  for (const std::filesystem::path& path : paths) files.push_back(read_bytes(path.string()));
  write_corpus(corpus_archive(format), files);
}

int run_alone(const Options& options) {
  if (options.formats.size() != 1) {
    throw std::invalid_argument("--read, --unpack and --pack ask for one format");
  }
  const std::string& name = options.formats.front();
  const test::TemporaryFolder folder;
  const Format format = make_format(name, folder.path());
  if (!options.unpack.empty()) unpack(format, options.unpack);
  if (!options.pack.empty()) pack(options.pack, name);
  if (!options.read.empty()) {
    format.read(read_bytes(options.read));
    std::cout << "accepted\n";
  }
  return 0;
}

int run(const Options& options) {
  if (!options.read.empty() || !options.unpack.empty() || !options.pack.empty()) {
    return run_alone(options);
  }
  bool good = true;
  for (const std::string& name : options.formats) good = fuzz_format(name, options) && good;
  return good ? 0 : 1;
}

}  // namespace
}  // namespace normlab::fuzz

int main(int argc, char* argv[]) {
  try {
    return normlab::fuzz::run(normlab::fuzz::parse({argv + 1, argv + argc}));
  } catch (const std::exception& error) {
    std::cerr << "fuzz: " << error.what() << "\n";
    return 2;
  }
}
