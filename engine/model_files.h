// What lies beside a model's weights: config.json and the tokenizer's files.
#pragma once

#include <string>
#include <vector>

#include "engine/hugging_face.h"

namespace normlab {

// A tokenizer as it is written beside a model.
struct TokenizerFiles {
  std::string name;                          // for config.json; "gpt2:." has its files beside
  int64_t end_of_text = -1;                  // id; −1: none
  std::map<std::string, std::string> files;  // content by file name
};

// Reads the files of tokenizer `name` ("": none). Where they cannot be read a warning says why, and
// the name is all there is.
TokenizerFiles read_tokenizer(const std::string& name, std::vector<std::string>& warnings);
// Has the tokenizer written beside the model: its files, tokenizer_config.json where transformers
// would not know it by them, its ids in config.json. (Beside a qwen2 transformers' AutoTokenizer
// sees Qwen2's own tokenizer in any files; there the class must be named when it is loaded.)
void use_tokenizer(ModelDescription& description, const TokenizerFiles& tokenizer);
// Adds that tokenizer_config.json to the description's files, for the tokenizer of this name.
void add_tokenizer_config(ModelDescription& description, const std::string& tokenizer);
// Writes and syncs DIR/config.json and what is to lie beside it. Returns the files' names.
std::vector<std::string> write_description(const std::string& directory,
                                           const ModelDescription& description);

// The tokenizer of a model, as make_tokenizer() takes it: the one `given` to a program; or else the
// one whose files lie in the model's directory (vocab.json and merges.txt, or tokenizer.model); or
// else the one that config.json names. Throws an input Error where there is none of them.
std::string tokenizer_for(const ModelDescription& description, const std::string& given,
                          const std::string& directory);

}  // namespace normlab
