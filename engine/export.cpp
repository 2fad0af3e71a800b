#include "engine/export.h"

#include <filesystem>

#include "engine/files.h"
#include "engine/model_files.h"
#include "engine/weights.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;

// What transformers looks for beside a model of these types, apart from the model itself.
constexpr const char* kTokenizerFiles[] = {"vocab.json",
                                           "merges.txt",
                                           "tokenizer.model",
                                           "tokenizer.json",
                                           "tokenizer_config.json",
                                           "special_tokens_map.json",
                                           "added_tokens.json",
                                           "chat_template.jinja"};

std::string type_name(StoredType type) {
  switch (type) {
    case StoredType::f32:
      return "float32";
    case StoredType::bf16:
      return "bfloat16";
    case StoredType::f16:
      return "float16";
    case StoredType::f64:
    case StoredType::i64:
    case StoredType::i32:
    case StoredType::other:
      break;
  }
  throw Error("a type that weights are not exported in");
}

// The tokenizer's files beside the model as they are, also those that are not read here; or else
// those of the tokenizer that config.json or the user names.
void add_tokenizer(ModelDescription& description, const std::string& directory,
                   const std::string& given, std::vector<std::string>& warnings) {
  if (given.empty()) {
    for (const char* name : kTokenizerFiles) {
      const std::string path = directory + "/" + name;
      std::error_code ignored;
      if (fs::is_regular_file(path, ignored)) description.files[name] = read_file(path);
    }
    if (!description.files.empty() || description.tokenizer.empty()) return;
  }
  use_tokenizer(description,
                read_tokenizer(tokenizer_for(description, given, directory), warnings));
  if (description.files.empty() || description.config.biases != Biases::qkv) return;
  warnings.push_back(
      "transformers' AutoTokenizer takes the tokenizer of every qwen2 for Qwen2's own and makes "
      "other tokens (load this one by its class, GPT2Tokenizer or TokenizersBackend)");
}

// The directory in which `out` is made, removed again unless it got its name.
class DirectoryBeside {
 public:
  explicit DirectoryBeside(const std::string& out)
      : out_(fs::absolute(out).lexically_normal()), path_(beside(out_)) {
    std::error_code error;
    if (fs::exists(out_, error) && !(fs::is_directory(out_, error) && fs::is_empty(out_, error))) {
      throw input_error(out +
                        ": exists already (an export replaces nothing). "
                        "Choose another --out, or remove it");
    }
    fs::create_directories(out_.parent_path(), error);
    if (!error) fs::remove_all(path_, error);
    if (!error) fs::create_directory(path_, error);
    if (error) {
      throw input_error(out + ": cannot be made (" + error.message() + "). Choose another --out");
    }
  }
  ~DirectoryBeside() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  DirectoryBeside(const DirectoryBeside&) = delete;
  DirectoryBeside& operator=(const DirectoryBeside&) = delete;

  std::string path() const { return path_.string(); }
  void put_in_place() {
    sync_directory(path_.string());
    std::error_code error;
    fs::rename(path_, out_, error);
    if (error) throw Error(out_.string() + ": cannot be made (" + error.message() + ")");
    sync_directory(out_.parent_path().string());
  }

 private:
  static fs::path beside(fs::path& out) {
    if (!out.has_filename()) out = out.parent_path();  // "DIR/"
    return out.parent_path() / (".partial-" + out.filename().string());
  }

  fs::path out_;
  fs::path path_;
};

}  // namespace

void export_hugging_face(const std::string& directory, const ExportOptions& options,
                         std::vector<std::string>& warnings) {
  ModelDescription description = read_config_json(directory);
  const std::string beyond = beyond_plain(description.config);
  if (!beyond.empty()) {
    throw input_error(directory + ": no plain model computes it (it has " + beyond +
                      "). Use it with this program, or export a model with the family's own norms");
  }
  description.type = type_name(options.type);
  add_tokenizer(description, directory, options.tokenizer, warnings);
  DirectoryBeside out(options.out);
  const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
  Model model(*ops, description.config, {1, 1});
  load_weights(model, directory);
  write_weights(model, out.path() + "/model.safetensors", {}, options.type);
  write_description(out.path(), description);
  out.put_in_place();
}

}  // namespace normlab
