// prepare --tokenizer TOKENIZER --out DIR FILE…: from text to token shards.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "data/set_writer.h"
#include "data/tokenized_documents.h"
#include "engine/log.h"
#include "engine/partial_directory.h"
#include "engine/stop_request.h"
#include "tools/main.h"

namespace normlab {
namespace {

struct Options {
  std::vector<std::string> files;
  std::string tokenizer;
  std::string out;
  SourceOptions source;
  SetOptions set;
  bool pad = false;
  int threads = 0;
  bool json = false;
};

// What has been done so far.
struct Progress {
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
  int64_t text_bytes = 0;
  int64_t bytes_read = 0;
  int64_t bytes_total = 0;  // 0: unknown

  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
};

constexpr double kMegabyte = 1e6;

std::string megabytes_text(double bytes) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.1f MB", bytes / kMegabyte);
  return text;
}

int64_t tokens_of(const SetWriter& writer) {
  return writer.train().tokens() + writer.validation().tokens();
}

std::string progress_line(const Progress& progress, const SetWriter& writer) {
  const double seconds = std::max(progress.seconds(), 1e-3);
  const auto read = static_cast<double>(progress.bytes_read);
  const auto total = static_cast<double>(progress.bytes_total);
  std::string line = megabytes_text(read);
  if (progress.bytes_total > 0) line += " of " + megabytes_text(total);
  line += " read, " + megabytes_text(read / seconds) + "/s, " + count_text(tokens_of(writer)) +
          " tokens";
  if (progress.bytes_total > 0 && progress.bytes_read > 0) {
    line += ", " + duration_text(seconds * (total - read) / read) + " to go";
  }
  return line;
}

// Moves all documents into the set. False where a signal asked to stop.
bool write_documents(SetWriter& writer, TokenizedDocuments& documents, Progress& progress,
                     Log& log) {
  constexpr std::chrono::milliseconds kPatience{100};
  constexpr double kSecondsBetweenLines = 0.2;
  double line_at = kSecondsBetweenLines;
  TokenizedBatch batch;
  while (!stop_requested()) {
    switch (documents.next(batch, kPatience)) {
      case TokenizedDocuments::Arrival::end:
        return !stop_requested();
      case TokenizedDocuments::Arrival::later:
        break;
      case TokenizedDocuments::Arrival::batch:
        for (std::vector<uint16_t>& document : batch.documents) writer.add(std::move(document));
        progress.text_bytes += batch.text_bytes;
        progress.bytes_read = batch.bytes_read;
    }
    if (progress.seconds() < line_at) continue;
    line_at = progress.seconds() + kSecondsBetweenLines;
    log.progress(progress_line(progress, writer), Log::Weight::passing);
  }
  return false;
}

nlohmann::ordered_json summary_json(const std::string& out, const Manifest& manifest,
                                    const SetWriter& writer, const Progress& progress) {
  nlohmann::ordered_json json = {
      {"directory", out},
      {"documents", manifest.documents()},
      {"tokens", tokens_of(writer)},
      {"train", {{"documents", writer.train().documents()}, {"tokens", writer.train().tokens()}}},
      {"validation",
       {{"documents", writer.validation().documents()}, {"tokens", writer.validation().tokens()}}},
      {"empty_documents", writer.empty_documents()},
      {"discarded_tokens",
       writer.train().discarded_tokens() + writer.validation().discarded_tokens()},
      {"text_bytes", progress.text_bytes},
      {"bytes_read", progress.bytes_read},
      {"seconds", progress.seconds()},
      {"vocabulary", manifest.vocabulary}};
  json["shards"] = nlohmann::ordered_json::array();
  for (const ManifestShard& shard : manifest.shards) json["shards"].push_back(shard.file);
  return json;
}

void say_summary(const std::string& out, const SetWriter& writer, const Progress& progress,
                 Log& log) {
  const ShardSeries& train = writer.train();
  const ShardSeries& validation = writer.validation();
  const auto tokens = static_cast<double>(tokens_of(writer));
  const auto text_bytes = static_cast<double>(progress.text_bytes);
  log.say(count_text(train.documents() + validation.documents()) + " documents, " +
          count_text(tokens_of(writer)) + " tokens (" + count_text(validation.documents()) +
          " and " + count_text(validation.tokens()) + " of them for validation)");
  if (progress.text_bytes > 0) {
    char ratio[64];
    std::snprintf(ratio, sizeof(ratio), "%.2f bytes per token, %.1f MB/s", text_bytes / tokens,
                  text_bytes / kMegabyte / std::max(progress.seconds(), 1e-3));
    log.say(megabytes_text(text_bytes) + " of text, " + ratio);
  }
  if (writer.empty_documents() > 0) {
    log.say(count_text(writer.empty_documents()) + " empty documents were left out");
  }
  if (const int64_t discarded = train.discarded_tokens() + validation.discarded_tokens();
      discarded > 0) {
    log.say(count_text(discarded) + " tokens beyond the rows' length were discarded");
  }
  log.say("written to " + out + " in " + duration_text(progress.seconds()) + "; in a recipe:");
  std::string data;
  if (train.documents() > 0) data = "train: [\"" + out + "/train-*.bin\"]";
  if (validation.documents() > 0) {
    data += (data.empty() ? "" : ", ") + ("validation: [\"" + out + "/val-*.bin\"]");
  }
  log.say("data: {" + data + "}");
}

void check_options(Options& options) {
  if (options.pad != (options.set.row_length > 0)) {
    throw input_error(
        "--row-length and --pad go together (a document a row, cut or filled up). "
        "Give both or neither");
  }
  if (!options.source.ids_key.empty()) options.set.end = DocumentEnd::none;
  if (options.threads == 0) {
    options.threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
}

int prepare(Options options) {
  catch_stop_signals();
  check_options(options);
  Log log(stderr_is_terminal());
  const auto tokenizer = make_tokenizer(options.tokenizer);
  PartialDirectory directory(options.out);
  if (directory.replaces_remains()) {
    log.say(directory.path() + ": removed what an interrupted run has left");
  }
  SetWriter writer(directory.path(), options.set, *tokenizer);
  TokenizedDocuments documents(options.files, options.source, *tokenizer, options.threads);
  Progress progress;
  progress.bytes_total = documents.bytes_total();
  if (!write_documents(writer, documents, progress, log)) {
    log.say("stopped by " + stop_signal_name() + ": nothing is kept, run again");
    return kExitStopped;
  }
  const Manifest manifest = writer.finish();
  directory.publish();
  if (options.json) {
    std::cout << summary_json(options.out, manifest, writer, progress).dump(2) << "\n";
  }
  say_summary(options.out, writer, progress, log);
  return kExitDone;
}

void add_options(CLI::App& app, Options& options) {
  app.add_option("files", options.files,
                 "texts (*.txt and others: a document a file), JSON lines (*.jsonl, *.json), each "
                 "also as .gz or .zst; -: JSON lines from standard input")
      ->required();
  app.add_option("--tokenizer", options.tokenizer,
                 "bytes, gpt2:DIR (vocab.json, merges.txt), sentencepiece:FILE")
      ->required();
  app.add_option("--out", options.out, "the directory to make; it appears when it is complete")
      ->required();
  app.add_option("--validation-fraction", options.set.validation_fraction,
                 "the part of the documents that is for validation; none by default");
  app.add_option("--validation-documents", options.set.validation_documents,
                 "so many documents for validation, drawn from all; they are kept in memory")
      ->check(CLI::PositiveNumber);
  app.add_option("--seed", options.set.seed, "of that choice; 1337 by default");
  app.add_option("--row-length", options.set.row_length,
                 "with --pad: a document a row of so many tokens, the rest discarded")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 30));
  app.add_flag("--pad", options.pad, "fill rows up, with end-of-text");
  app.add_option("--key", options.source.key,
                 "of the text in a JSON line (a.b: b in a); text by "
                 "default");
  app.add_option("--ids-key", options.source.ids_key,
                 "of ids in a JSON line, taken as they are in place of text");
  app.add_option("--document-separator", options.source.document_separator,
                 "what stands between the documents of a text, standard input included");
  app.add_option("--shard-tokens", options.set.shard_tokens,
                 "of a shard at most, but for a longer document; 100,000,000 by default")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  app.add_option("--threads", options.threads, "that tokenise; all cores by default")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--json", options.json, "the summary as JSON on stdout");
}

}  // namespace
}  // namespace normlab

int main(int argc, char* argv[]) {
  normlab::Options options;
  CLI::App app(
      "Turns text into token shards (llm.c's layout) with a manifest and the tokenizer's files. "
      "Documents stand one after another, each ended by the tokenizer's end-of-text; an empty one "
      "is its end-of-text alone, in rows it is left out.\nExample: prepare --tokenizer "
      "gpt2:gpt2-tokenizer --out data/mine --validation-fraction 0.01 part-*.jsonl.gz",
      "prepare");
  normlab::add_options(app, options);
  return normlab::run_main(app, argc, argv, [&] { return normlab::prepare(options); });
}
