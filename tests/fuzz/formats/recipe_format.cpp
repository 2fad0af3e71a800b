#include <map>

#include "engine/config.h"
#include "kernels/error.h"
#include "tests/fuzz/format.h"

namespace normlab::fuzz {

Format recipe_format(const std::string& folder) {
  const std::string path = folder + "/recipe.yaml";
  Format format;
  const std::map<std::string, std::vector<std::string>> recipes = {
      {"quickstart", {}}, {"bytes-gpt2", {"data.text=a.txt"}}};
  for (const auto& [recipe, overrides] : recipes) {
    const std::string text =
        read_bytes(std::string(SOURCE_DIRECTORY) + "/tools/recipes/" + recipe + ".yaml");
    format.files.push_back(text);
    format.files.push_back(to_yaml(parse_config(text, recipe, overrides)));
  }
  write_bytes(folder + "/base.yaml", format.files.front());
  format.files.push_back("inherit: base.yaml\nmodel: {layers: 2}\n");
  format.files.push_back("data: " + std::string(5000, '[') + std::string(5000, ']') + "\n");
  format.tokens = {"inherit: recipe.yaml\n",
                   "inherit: base.yaml\n",
                   "inherit: .\n",
                   "<<: *a\n",
                   "&a ",
                   "*a",
                   "!!binary ",
                   "---\n",
                   "...\n",
                   "? ",
                   ": ",
                   "- ",
                   "[",
                   "]",
                   "{",
                   "}",
                   "|\n",
                   ">-\n",
                   "'",
                   "\"",
                   "#",
                   "\t",
                   "010",
                   "0x1f",
                   ".inf",
                   ".nan",
                   "null",
                   "~",
                   "auto",
                   "cuda",
                   "bf16",
                   "llama",
                   "size: 7b",
                   "from: .",
                   "grammar: null"};
  format.read = [path](const std::string& bytes) {
    write_bytes(path, bytes);
    const Config config = load_config(path, {});
    // What is read is written so that it is read again as the same.
    const std::string written = to_yaml(config);
    check(to_yaml(parse_config(written, "written")) == written, "a recipe that is read back");
  };
  return format;
}

}  // namespace normlab::fuzz
