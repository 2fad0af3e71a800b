#include "data/tokenized_documents.h"

#include <utility>

namespace normlab {
namespace {

constexpr int64_t kBatchBytes = int64_t{1} << 18;
constexpr int64_t kBytesAheadPerThread = int64_t{1} << 21;

SourceOptions completed(SourceOptions options, const Tokenizer& tokenizer,
                        const std::stop_source& stop) {
  options.vocabulary = tokenizer.vocabulary();
  options.stop = stop.get_token();
  return options;
}

}  // namespace

TokenizedDocuments::TokenizedDocuments(const std::vector<std::string>& files, SourceOptions options,
                                       const Tokenizer& tokenizer, int threads)
    : tokenizer_(tokenizer),
      ids_(!options.ids_key.empty()),
      most_bytes_ahead_(kBytesAheadPerThread * threads),
      source_(open_documents(files, completed(std::move(options), tokenizer, stop_))) {
  try {
    threads_.emplace_back([this] { read_documents(); });
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { encode_documents(); });
  } catch (...) {
    stop();
    throw;
  }
}

TokenizedDocuments::~TokenizedDocuments() { stop(); }

void TokenizedDocuments::stop() {
  stop_.request_stop();
  // A thread that has just found nothing to stop for is waiting before the lock is to be had.
  { const std::lock_guard lock(mutex_); }
  changed_.notify_all();
  threads_.clear();
}

void TokenizedDocuments::read_documents() {
  bool more = true;
  while (more) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock,
                    [&] { return stop_.stop_requested() || bytes_ahead_ < most_bytes_ahead_; });
    }
    auto work = std::make_unique<Work>();
    try {
      more = fill(*work);
    } catch (...) {
      work->error = std::current_exception();
      more = false;
    }
    more = more && !stop_.stop_requested();
    const std::lock_guard lock(mutex_);
    bytes_ahead_ += work->size_bytes;
    ahead_.push_back(std::move(work));
    read_to_end_ = !more;
    changed_.notify_all();
  }
}

// False where the source has no more.
bool TokenizedDocuments::fill(Work& work) {
  // Beside its text a document costs the memory of its object.
  constexpr int64_t kDocumentBytes = sizeof(Document);
  bool more = true;
  while (work.size_bytes < kBatchBytes) {
    Document document;
    more = source_->next(document);
    if (!more) break;
    const size_t ids_bytes = document.ids.size() * sizeof(document.ids[0]);
    work.size_bytes += static_cast<int64_t>(document.text.size() + ids_bytes) + kDocumentBytes;
    work.documents.push_back(std::move(document));
  }
  work.batch.bytes_read = source_->bytes_read();
  return more;
}

void TokenizedDocuments::encode_documents() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock,
                  [&] { return stop_.stop_requested() || taken_ < ahead_.size() || read_to_end_; });
    if (stop_.stop_requested() || taken_ == ahead_.size()) return;
    Work& work = *ahead_[taken_++];
    lock.unlock();
    try {
      encode(work);
    } catch (...) {
      work.error = std::current_exception();
    }
    lock.lock();
    work.done = true;
    changed_.notify_all();
  }
}

void TokenizedDocuments::encode(Work& work) const {
  for (Document& document : work.documents) {
    work.batch.text_bytes += static_cast<int64_t>(document.text.size());
    work.batch.documents.push_back(ids_ ? std::move(document.ids)
                                        : tokenizer_.encode(document.text));
    document = {};
  }
}

TokenizedDocuments::Arrival TokenizedDocuments::next(TokenizedBatch& batch,
                                                     std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  const bool arrived = changed_.wait_for(
      lock, patience, [&] { return ahead_.empty() ? read_to_end_ : ahead_.front()->done; });
  if (!arrived) return Arrival::later;
  if (ahead_.empty()) return Arrival::end;
  const std::unique_ptr<Work> work = std::move(ahead_.front());
  ahead_.pop_front();
  --taken_;
  bytes_ahead_ -= work->size_bytes;
  changed_.notify_all();
  if (work->error) std::rethrow_exception(work->error);
  batch = std::move(work->batch);
  return Arrival::batch;
}

}  // namespace normlab
