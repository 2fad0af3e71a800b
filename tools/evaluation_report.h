// What evaluate prints of a set of tokens: as text, or as JSON.
#pragma once

#include <algorithm>
#include <iomanip>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "engine/evaluation.h"

namespace normlab {

// A document that the model does badly on, and how it begins.
struct WorstDocument {
  DocumentLoss loss;
  std::string text;  // "" where no tokenizer is known
};

struct EvaluationReport {
  std::string name;  // of the set; "": the only one
  EvaluationResult result;
  std::vector<WorstDocument> worst_documents;
};

// The first tokens of a document as text; "" where there is no tokenizer, or it does not know one
// of them.
inline std::string beginning_of(const TokenCorpus& corpus, TokenRange document,
                                const Tokenizer* tokenizer) {
  constexpr int64_t kShownTokens = 40;
  if (tokenizer == nullptr) return "";
  std::vector<uint16_t> tokens(
      static_cast<size_t>(std::min(kShownTokens, document.end - document.begin)));
  corpus.copy(document.begin, tokens);
  const auto known = [&](uint16_t token) { return token < tokenizer->vocabulary(); };
  return std::all_of(tokens.begin(), tokens.end(), known) ? tokenizer->decode(tokens) : "";
}

inline EvaluationReport make_report(const std::string& name, const EvaluationResult& result,
                                    const TokenCorpus& corpus, const Tokenizer* tokenizer) {
  EvaluationReport report{name, result, {}};
  const Documents documents(corpus);
  for (const DocumentLoss& loss : result.worst_documents) {
    report.worst_documents.push_back(
        {loss, beginning_of(corpus, documents[loss.document], tokenizer)});
  }
  return report;
}

inline nlohmann::ordered_json to_json(const EvaluationReport& report) {
  const EvaluationResult& result = report.result;
  nlohmann::ordered_json out = {
      {"loss", result.loss},         {"perplexity", result.perplexity}, {"median", result.median},
      {"range_95", result.range_95}, {"range_99_9", result.range_99_9}, {"tokens", result.tokens}};
  if (result.reference_perplexity) out["ppl_cod"] = *result.reference_perplexity;
  out["worst_documents"] = nlohmann::ordered_json::array();
  for (const auto& [loss, text] : report.worst_documents) {
    nlohmann::ordered_json document = {
        {"document", loss.document}, {"loss", loss.loss}, {"tokens", loss.tokens}};
    if (!text.empty()) document["text"] = text;
    out["worst_documents"].push_back(document);
  }
  return out;
}

// A number of tokens may end within a character: what is no UTF-8 is replaced.
inline std::string dump(const nlohmann::ordered_json& json, int indent) {
  return json.dump(indent, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

inline void print_text(std::ostream& out, const EvaluationReport& report) {
  const EvaluationResult& result = report.result;
  if (!report.name.empty()) out << report.name << "\n";
  out << "loss        " << result.loss << " nats per token\n"
      << "perplexity  " << result.perplexity << "\n";
  if (result.reference_perplexity) out << "ppl_cod     " << *result.reference_perplexity << "\n";
  out << "median      " << result.median << "\n"
      << "95%         [" << result.range_95[0] << ", " << result.range_95[1] << "]\n"
      << "99.9%       [" << result.range_99_9[0] << ", " << result.range_99_9[1] << "]\n"
      << "tokens      " << result.tokens << "\n";
  if (!report.worst_documents.empty()) out << "worst documents: loss, tokens, number, beginning\n";
  for (const auto& [loss, text] : report.worst_documents) {
    out << "  " << std::setw(8) << loss.loss << std::setw(8) << loss.tokens << std::setw(8)
        << loss.document << (text.empty() ? "" : "  " + dump(text, -1)) << "\n";
  }
}

// Of one set without a name, the set itself; of named ones {"sets": {NAME: …}}.
inline void print_json(std::ostream& out, const std::vector<EvaluationReport>& reports) {
  nlohmann::ordered_json json;
  for (const EvaluationReport& report : reports) {
    if (report.name.empty()) {
      json = to_json(report);
    } else {
      json["sets"][report.name] = to_json(report);
    }
  }
  out << dump(json, 2) << "\n";
}

inline void print(std::ostream& out, const std::vector<EvaluationReport>& reports) {
  for (const EvaluationReport& report : reports) {
    if (&report != &reports.front()) out << "\n";
    print_text(out, report);
  }
}

}  // namespace normlab
