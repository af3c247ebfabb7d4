// The C API: lists of blocks and of ranges.
#include <cstddef>
#include <span>

#include "engine/c_arguments.h"
#include "engine/c_calls.h"
#include "transfer_engine/engine.h"
#include "transfer_engine_c.h"

namespace {

using te::Status;
using te::c_api::null_argument;
using te::c_api::with_engine;

static_assert(sizeof(block_region_t) == sizeof(te::BlockRegion));
static_assert(offsetof(block_region_t, source) == offsetof(te::BlockRegion, source));
static_assert(offsetof(block_region_t, target_offset) == offsetof(te::BlockRegion, target_offset));
static_assert(offsetof(block_region_t, block_size) == offsetof(te::BlockRegion, block_size));

Status to_list(const block_list_t* from, te::BlockList* to) {
  if (from == nullptr) return null_argument("list");
  if (from->regions == nullptr && from->region_count > 0) return null_argument("list.regions");
  if (from->source_blocks == nullptr && from->block_count > 0) {
    return null_argument("list.source_blocks");
  }
  if (from->target_blocks == nullptr && from->block_count > 0) {
    return null_argument("list.target_blocks");
  }
  *to = {static_cast<te::Opcode>(from->opcode),
         from->target_id,
         {reinterpret_cast<const te::BlockRegion*>(from->regions), from->region_count},
         {from->source_blocks, from->block_count},
         {from->target_blocks, from->block_count}};
  return {};
}

Status to_list(const address_list_t* from, te::AddressList* to) {
  if (from == nullptr) return null_argument("list");
  if (from->sources == nullptr && from->count > 0) return null_argument("list.sources");
  if (from->target_offsets == nullptr && from->count > 0) {
    return null_argument("list.target_offsets");
  }
  if (from->lengths == nullptr && from->count > 0) return null_argument("list.lengths");
  *to = {static_cast<te::Opcode>(from->opcode),
         from->target_id,
         {from->sources, from->count},
         {from->target_offsets, from->count},
         {from->lengths, from->count}};
  return {};
}

Status to_options(const submit_options_t* from, te::SubmitOptions* to) {
  return from == nullptr ? Status() : te::c_api::to_submit_options(*from, to);
}

template <typename To, typename From>
int submit_list(transfer_engine_t engine, batch_id_t batch_id, const From* list,
                const submit_options_t* options) {
  return with_engine(engine, [&](te::Engine& e) -> Status {
    To to;
    te::SubmitOptions wanted;
    TE_RETURN_IF_ERROR(to_list(list, &to));
    TE_RETURN_IF_ERROR(to_options(options, &wanted));
    return e.submit_list(batch_id, to, wanted);
  });
}

template <typename To, typename From>
prepared_list_t prepare_list(transfer_engine_t engine, const From* list) {
  te::PreparedList* made = nullptr;
  with_engine(engine, [&](te::Engine& e) -> Status {
    To to;
    TE_RETURN_IF_ERROR(to_list(list, &to));
    te::Result<te::PreparedList> prepared = e.prepare(to);
    if (prepared.ok()) made = new te::PreparedList(prepared.take());
    return prepared.status();
  });
  return made;
}

}  // namespace

extern "C" {

int submitBlocks(transfer_engine_t engine, batch_id_t batch_id, const block_list_t* list,
                 const submit_options_t* options) {
  return submit_list<te::BlockList>(engine, batch_id, list, options);
}

int submitAddresses(transfer_engine_t engine, batch_id_t batch_id, const address_list_t* list,
                    const submit_options_t* options) {
  return submit_list<te::AddressList>(engine, batch_id, list, options);
}

prepared_list_t prepareBlocks(transfer_engine_t engine, const block_list_t* list) {
  return prepare_list<te::BlockList>(engine, list);
}

prepared_list_t prepareAddresses(transfer_engine_t engine, const address_list_t* list) {
  return prepare_list<te::AddressList>(engine, list);
}

int submitPreparedList(transfer_engine_t engine, batch_id_t batch_id, prepared_list_t list,
                       const submit_options_t* options) {
  return with_engine(engine, [&](te::Engine& e) -> Status {
    if (list == nullptr) return null_argument("list");
    te::SubmitOptions wanted;
    TE_RETURN_IF_ERROR(to_options(options, &wanted));
    return e.submit_list(batch_id, *static_cast<const te::PreparedList*>(list), wanted);
  });
}

void freePreparedList(prepared_list_t list) { delete static_cast<te::PreparedList*>(list); }

}  // extern "C"
