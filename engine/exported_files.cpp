#include "engine/exported_files.h"

#include "exported_texts.h"

namespace normlab {
namespace {

std::string text_of(const std::string& name) {
  for (const ExportedText& exported : kExportedTexts) {
    if (name == exported.name) return exported.text;
  }
  throw Error("no file " + name + " in engine/exported");
}

}  // namespace

std::map<std::string, std::string> exported_files(const ModelDescription& description) {
  std::map<std::string, std::string> files;
  const ModelConfig& config = description.config;
  std::string& readme = files["README.md"];
  const bool for_lens = config.family == Family::gpt2;  // which is all that its loader knows
  const auto add_lens = [&] {
    files["load_transformer_lens.py"] = text_of("load_transformer_lens.py");
    readme += text_of("transformer-lens.md");
  };
  switch (description.form) {
    case ModelForm::own:
      return {};
    case ModelForm::ln_free:
      readme = text_of("hf-ln-free.md");
      if (for_lens) {
        add_lens();
        readme += text_of("transformer-lens-stock.md");
      }
      readme += text_of("nnsight-stock.md");
      break;
    case ModelForm::modelling: {
      const bool folded = config.norm.placement == NormPlacement::none;
      readme = text_of(folded ? "folded.md" : "partly-removed.md");
      if (folded && for_lens) add_lens();
      readme += text_of("nnsight-modelling.md");
      for (const std::string& name :
           {modelling_file(config.family), std::string("normlab_norms")}) {
        files[name + ".py"] = text_of(name + ".py");
      }
      break;
    }
  }
  readme += text_of("normlab.md");
  return files;
}

}  // namespace normlab
