// What PyTorch says of the depth of a golden model (tests/golden/make_depth.py), and its tokens.
#pragma once

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "data/token_corpus.h"
#include "engine/hugging_face.h"
#include "engine/safetensors.h"
#include "engine/weights.h"

namespace normlab::test {

struct GoldenDepth {
  explicit GoldenDepth(const std::string& name)
      : directory(std::string(SOURCE_DIRECTORY) + "/tests/golden/" + name),
        expected(nlohmann::json::parse(std::ifstream(directory + "/depth.json"))) {
    const SafetensorsFile file(directory + "/expected.safetensors");
    const std::span<const std::byte> bytes = file.bytes("tokens");
    std::vector<int32_t> ids(bytes.size() / sizeof(int32_t));
    std::memcpy(ids.data(), bytes.data(), bytes.size());
    const std::vector<uint16_t> tokens(ids.begin(), ids.end());
    CorpusDescription description;
    description.vocabulary = read_config_json(directory).config.vocabulary;
    corpus = TokenCorpus(description, tokens, {0});
  }

  int64_t length() const { return expected.at("tokens_per_sequence"); }

  std::string directory;
  nlohmann::json expected;
  TokenCorpus corpus;
};

}  // namespace normlab::test
