// WRITEs that wait for a fence: no network, no thread, no clock.
#include "engine/fences.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "base/log.h"
#include "engine/pair.h"
#include "transport/fakes.h"

namespace te::test {
namespace {

constexpr uint64_t kInstance = 77;

class FencesTest : public testing::Test {
 protected:
  struct Request {
    Submission submission;
    Task task;
  };

  // A target that answers when the test says so.
  FencesTest()
      : fences_(
            [this](const Peer& peer, std::string_view transport, const Bytes&,
                   TransportHost::Answered answered) {
              EXPECT_EQ(peer.instance, kInstance);
              EXPECT_EQ(transport, "tcp");
              questions_.push_back(std::move(answered));
            },
            [this](SliceList slices) {
              while (!slices.empty()) released_.push_back(slices.pop());
            },
            [this](Slice* slice, Code code) {
              EXPECT_TRUE(given_back_.emplace(slice, code).second) << "it came back twice";
            }) {
    Peer peer;
    peer.instance = kInstance;
    fences_.add(peer, "tcp", Bytes());
  }
  ~FencesTest() override { fences_.stop(); }

  Slice* request(Opcode opcode = Opcode::kWrite) {
    requests_.push_back(std::make_unique<Request>());
    Request& made = *requests_.back();
    made.task.submission = &made.submission;
    made.task.instance = kInstance;
    made.task.first.task = &made.task;
    made.task.first.path = &path_;
    made.task.first.opcode = opcode;
    return &made.task.first;
  }
  // Those that need not wait.
  std::vector<Slice*> hold(std::initializer_list<Slice*> slices) {
    SliceList list;
    for (Slice* slice : slices) list.push(slice);
    std::vector<Slice*> rest;
    for (list = fences_.hold(list); !list.empty();) rest.push_back(list.pop());
    return rest;
  }
  void answer(const Result<Bytes>& answer) {
    ASSERT_FALSE(questions_.empty()) << "the target was not asked";
    const TransportHost::Answered answered = std::move(questions_.front());
    questions_.pop_front();
    answered(answer);
  }

  NullTransport transport_;
  Path path_{transport_, "", "", "the peer"};
  std::deque<TransportHost::Answered> questions_;
  std::vector<Slice*> released_;
  std::map<Slice*, Code> given_back_;
  std::vector<std::unique_ptr<Request>> requests_;
  Fences fences_;
};

TEST_F(FencesTest, AWriteWaitsForTheAnswerAndAReadDoesNot) {
  for (const Code word : {Code::kOk, Code::kStale, Code::kUnsupported}) {
    Slice* write = request();
    Slice* read = request(Opcode::kRead);
    EXPECT_EQ(hold({write, read}), std::vector<Slice*>{read});
    EXPECT_EQ(questions_.size(), 1u) << "one question is enough";
    EXPECT_TRUE(released_.empty());
    answer(word == Code::kOk ? Result<Bytes>(Bytes()) : Result<Bytes>(Status(word, "its word")));
    EXPECT_EQ(released_, std::vector<Slice*>{write});
    EXPECT_TRUE(given_back_.empty());
    EXPECT_FALSE(fences_.any());
    released_.clear();
    Peer peer;
    peer.instance = kInstance;
    fences_.add(peer, "tcp", Bytes());
  }
}

TEST_F(FencesTest, ATargetThatIsSilentFailsTheWritesAndTheReasonIsSaid) {
  Slice* write = request();
  EXPECT_TRUE(hold({write}).empty());
  answer(error(Code::kUnavailable, "the peer: {}", wire::silence(250)));
  EXPECT_EQ(given_back_.at(write), Code::kUnavailable);
  const Status why = path_.last_error();
  EXPECT_EQ(why.code(), Code::kUnavailable);
  EXPECT_EQ(why.message(),
            "tcp: a WRITE waits for the target to rule out that an earlier, failed WRITE still "
            "arrives, which it cannot be asked now: the peer: no answer within 250 ms "
            "(connect_timeout_ms)");
  EXPECT_TRUE(released_.empty()) << "the fence was not made";
  // The next WRITE has it asked again, and is kept until then.
  Slice* next = request();
  EXPECT_TRUE(hold({next}).empty());
  answer(Bytes());
  EXPECT_EQ(released_, std::vector<Slice*>{next});
}

// Its deadline has passed: the time-out is the submission's, and the wait for the fence goes on.
TEST_F(FencesTest, AWriteWhoseTimeIsOverDoesNotWaitForTheFence) {
  Slice* late = request();
  Slice* patient = request();
  EXPECT_TRUE(hold({late}).empty());
  EXPECT_TRUE(hold({patient}).empty());
  late->task->submission->cancel = Code::kTimeout;
  fences_.sweep();
  EXPECT_EQ(given_back_, (std::map<Slice*, Code>{{late, Code::kCancelled}}));
  answer(Bytes());
  EXPECT_EQ(released_, std::vector<Slice*>{patient});
}

}  // namespace
}  // namespace te::test
