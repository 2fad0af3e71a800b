#include "engine/model_files.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/tokenizer.h"
#include "engine/files.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;

constexpr const char* kGpt2 = "gpt2:";
constexpr const char* kSentencePiece = "sentencepiece:";
constexpr const char* kSentencePieceFile = "tokenizer.model";

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// The tokenizer whose files lie in a directory; "" where there are none.
std::string tokenizer_beside(const std::string& directory) {
  const bool gpt2 = exists(directory + "/vocab.json") && exists(directory + "/merges.txt");
  const bool sentencepiece = exists(directory + "/" + kSentencePieceFile);
  if (gpt2 && sentencepiece) {
    throw input_error(directory + ": holds two tokenizers (vocab.json with merges.txt, and " +
                      kSentencePieceFile + "). Name one with --tokenizer");
  }
  if (gpt2) return kGpt2 + directory;
  if (sentencepiece) return kSentencePiece + directory + "/" + kSentencePieceFile;
  return "";
}

// "gpt2:." and "sentencepiece:./FILE" are the files of the model's directory.
std::string within(const std::string& directory, const std::string& name) {
  const size_t colon = name.find(':');
  if (colon == std::string::npos) return name;
  const std::string place = name.substr(colon + 1);
  if (place != "." && !place.starts_with("./")) return name;
  return name.substr(0, colon + 1) + directory + place.substr(1);
}

}  // namespace

TokenizerFiles read_tokenizer(const std::string& name, std::vector<std::string>& warnings) {
  TokenizerFiles read;
  read.name = name;
  if (name.empty()) return read;
  try {
    const auto tokenizer = make_tokenizer(name);
    std::map<std::string, std::string> files;
    for (const std::string& path : tokenizer->files()) {
      const bool sentencepiece = name.starts_with(kSentencePiece);
      files[sentencepiece ? kSentencePieceFile : fs::path(path).filename().string()] =
          read_file(path);
    }
    read.end_of_text = tokenizer->end_of_text();
    read.files = std::move(files);
  } catch (const Error& error) {
    warnings.push_back(std::string(error.what()) +
                       " (models are saved without the files of their tokenizer)");
    return read;
  }
  if (read.files.empty()) return read;
  if (name.starts_with(kGpt2)) read.name = std::string(kGpt2) + ".";
  if (name.starts_with(kSentencePiece)) {
    read.name = std::string(kSentencePiece) + "./" + kSentencePieceFile;
  }
  return read;
}

void use_tokenizer(ModelDescription& description, const TokenizerFiles& tokenizer) {
  description.tokenizer = tokenizer.name;
  description.files = tokenizer.files;
  const ModelConfig& config = description.config;
  // A text begins where the one before it ends.
  if (tokenizer.end_of_text >= 0 && tokenizer.end_of_text < config.vocabulary) {
    description.begin_of_text = description.end_of_text = tokenizer.end_of_text;
  }
  if (!tokenizer.files.empty()) add_tokenizer_config(description, tokenizer.name);
}

void add_tokenizer_config(ModelDescription& description, const std::string& tokenizer) {
  const bool known =
      description.config.family == Family::llama && description.form != ModelForm::modelling;
  nlohmann::ordered_json settings;
  if (tokenizer.starts_with(kGpt2)) {
    settings["tokenizer_class"] = "GPT2Tokenizer";
  } else if (!known) {
    // By itself transformers looks for tokenizer.model beside a llama or mistral only. (Its
    // LlamaTokenizer would make other ids of a space at the beginning than SentencePiece.)
    settings["tokenizer_class"] = "TokenizersBackend";
  } else {
    return;
  }
  settings["model_max_length"] = description.config.context;
  description.files["tokenizer_config.json"] = settings.dump(2) + "\n";
}

std::vector<std::string> write_description(const std::string& directory,
                                           const ModelDescription& description) {
  std::vector<std::string> names = {"config.json"};
  write_file_synced(directory + "/config.json", config_json(description));
  for (const auto& [name, content] : description.files) {
    write_file_synced(directory + "/" + name, content);
    names.push_back(name);
  }
  return names;
}

std::string tokenizer_for(const ModelDescription& description, const std::string& given,
                          const std::string& directory) {
  if (!given.empty()) return given;
  const std::string beside = tokenizer_beside(directory);
  if (!beside.empty()) return beside;
  if (!description.tokenizer.empty()) return within(directory, description.tokenizer);
  if (exists(directory + "/tokenizer.json")) {
    throw input_error(directory +
                      ": its tokenizer is not known (tokenizer.json is not read). Put vocab.json "
                      "and merges.txt, or tokenizer.model, beside it, or name one with "
                      "--tokenizer");
  }
  throw input_error(directory + ": its tokenizer is not known. Name it with --tokenizer");
}

}  // namespace normlab
