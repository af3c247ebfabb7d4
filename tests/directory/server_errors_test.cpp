// Opening a directory where the wrong thing answers, or nothing, or nobody may enter.
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>

#include "backends.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/socket.h"
#include "directory/base64.h"
#include "directory/record.h"

namespace te::test {
namespace {

constexpr const char* kSecret = "hunter2";

Status open_status(const std::string& url,
                   std::chrono::milliseconds timeout = std::chrono::seconds(3)) {
  DirectoryOptions options;
  options.timeout = timeout;
  return open_directory(url, options).status();
}

bool contains(const Status& status, const std::string& part) {
  return status.message().find(part) != std::string::npos;
}

// Starts `backend` or skips; the macro returns from the test.
#define TE_START_OR_SKIP(backend)                                                          \
  do {                                                                                     \
    if (!(backend)->missing().empty()) GTEST_SKIP() << (backend)->missing() << " missing"; \
    const Status started = (backend)->start();                                             \
    ASSERT_TRUE(started.ok()) << started.to_string();                                      \
  } while (false)

TEST(ServerErrors, NobodyListens) {
  const std::string endpoint = "127.0.0.1:" + std::to_string(free_port());
  for (const char* scheme :
       {"etcd://", "redis://", "http://", "etcds://", "rediss://", "https://"}) {
    const Status status = open_status(std::string(scheme) + endpoint);
    EXPECT_EQ(status.code(), Code::kUnavailable) << status.to_string();
    EXPECT_TRUE(contains(status, endpoint)) << status.to_string();
  }
}

TEST(ServerErrors, EveryEndpointIsNamed) {
  const std::string one = "127.0.0.1:" + std::to_string(free_port());
  const std::string two = "127.0.0.1:" + std::to_string(free_port());
  const Status status = open_status("etcd://" + one + "," + two);
  EXPECT_EQ(status.code(), Code::kUnavailable) << status.to_string();
  EXPECT_TRUE(contains(status, one) && contains(status, two)) << status.to_string();
}

TEST(ServerErrors, AServerThatNeverAnswersCostsTheTimeout) {
  const Result<Fd> silent = listen_tcp("127.0.0.1", 0, 16);
  ASSERT_TRUE(silent.ok());
  const std::string endpoint = local_address(silent->get()).to_string();
  for (const std::string& url : std::initializer_list<std::string>{
           "etcd://" + endpoint, "etcd://" + endpoint + "," + endpoint, "redis://" + endpoint,
           "http://" + endpoint, "etcds://" + endpoint, "rediss://" + endpoint,
           "https://" + endpoint}) {
    const int64_t begin_ns = now_ns();
    const Status status = open_status(url, std::chrono::milliseconds(200));
    EXPECT_EQ(status.code(), Code::kUnavailable) << status.to_string();
    EXPECT_LT(now_ns() - begin_ns, 2000 * kNsPerMs) << url;
    EXPECT_GT(now_ns() - begin_ns, 150 * kNsPerMs) << url;
  }
}

TEST(ServerErrors, AHostThatDoesNotExist) {
  for (const char* scheme : {"etcd://", "redis://", "http://", "rediss://"}) {
    const Status status = open_status(std::string(scheme) + "no-such-host.invalid:1");
    EXPECT_EQ(status.code(), Code::kUnavailable) << status.to_string();
    EXPECT_TRUE(contains(status, "no-such-host.invalid")) << status.to_string();
  }
}

TEST(ServerErrors, ASilentFirstEndpointLeavesTimeForTheSecond) {
  const Result<Fd> silent = listen_tcp("127.0.0.1", 0, 16);
  ASSERT_TRUE(silent.ok());
  const auto etcd = make_etcd_backend();
  TE_START_OR_SKIP(etcd);
  DirectoryOptions options;
  options.timeout = std::chrono::milliseconds(1000);
  auto directory = open_directory(
      "etcd://" + local_address(silent->get()).to_string() + "," + etcd->endpoint(), options);
  ASSERT_TRUE(directory.ok()) << directory.status().to_string();
  const int64_t begin_ns = now_ns();
  EXPECT_EQ((*directory)->resolve("x").code(), Code::kNotFound);
  EXPECT_LT(now_ns() - begin_ns, 400 * kNsPerMs) << "the endpoint that answered is not remembered";
}

TEST(ServerErrors, ADyingEndpointIsReplacedByTheOther) {
  const auto first = make_etcd_backend();
  const auto second = make_etcd_backend();  // not of the same cluster: it begins empty
  TE_START_OR_SKIP(first);
  TE_START_OR_SKIP(second);
  DirectoryOptions options;
  options.lease = std::chrono::seconds(1);
  auto directory = open_directory(first->url() + "," + second->endpoint(), options);
  auto witness = open_directory(second->url(), options);
  ASSERT_TRUE(directory.ok() && witness.ok());
  ASSERT_TRUE((*directory)->publish("seg", {"h", 1, 1}, nullptr).ok());
  ASSERT_EQ((*witness)->resolve("seg").code(), Code::kNotFound);
  first->stop();
  EXPECT_TRUE(eventually([&] { return (*witness)->resolve("seg").ok(); }));
  EXPECT_TRUE((*directory)->resolve("seg").ok());
}

TEST(ServerErrors, RedisAddressOfAnotherServer) {
  const auto http = make_http_backend();
  TE_START_OR_SKIP(http);
  const Status status = open_status("redis://" + http->endpoint());
  EXPECT_EQ(status.code(), Code::kProtocol) << status.to_string();
  EXPECT_TRUE(contains(status, "HTTP/1.1 400")) << status.to_string();

  const auto etcd = make_etcd_backend();
  TE_START_OR_SKIP(etcd);
  const Status at_etcd = open_status("redis://" + etcd->endpoint());
  EXPECT_EQ(at_etcd.code(), Code::kProtocol) << at_etcd.to_string();
}

TEST(ServerErrors, EtcdAddressOfAnotherServer) {
  const auto http = make_http_backend();
  TE_START_OR_SKIP(http);
  const Status status = open_status("etcd://" + http->endpoint());
  EXPECT_EQ(status.code(), Code::kProtocol) << status.to_string();
  EXPECT_TRUE(contains(status, "not etcd")) << status.to_string();
  EXPECT_EQ(open_status(http->endpoint()).code(), Code::kProtocol);

  const auto redis = make_redis_backend();
  TE_START_OR_SKIP(redis);
  const Status at_redis = open_status("etcd://" + redis->endpoint());
  EXPECT_EQ(at_redis.code(), Code::kProtocol) << at_redis.to_string();
}

TEST(ServerErrors, HttpAddressOfAnotherServer) {
  const auto http = make_http_backend();
  TE_START_OR_SKIP(http);
  const Status wrong_path = open_status("http://" + http->endpoint() + "/elsewhere");
  EXPECT_EQ(wrong_path.code(), Code::kProtocol) << wrong_path.to_string();
  EXPECT_TRUE(contains(wrong_path, "404")) << wrong_path.to_string();
  EXPECT_EQ(open_status("https://" + http->endpoint() + "/metadata").code(), Code::kProtocol);

  const auto etcd = make_etcd_backend();
  TE_START_OR_SKIP(etcd);
  const Status at_etcd = open_status("http://" + etcd->endpoint());
  EXPECT_EQ(at_etcd.code(), Code::kProtocol) << at_etcd.to_string();

  const auto redis = make_redis_backend();
  TE_START_OR_SKIP(redis);
  const Status at_redis = open_status("http://" + redis->endpoint());
  EXPECT_EQ(at_redis.code(), Code::kProtocol) << at_redis.to_string();
}

TEST(ServerErrors, RedisPasswords) {
  const auto locked = make_redis_backend(kSecret);
  TE_START_OR_SKIP(locked);
  const Status none = open_status("redis://" + locked->endpoint());
  EXPECT_EQ(none.code(), Code::kPermission) << none.to_string();
  EXPECT_TRUE(contains(none, "password")) << none.to_string();
  const Status wrong = open_status("redis://:wr0ng@" + locked->endpoint());
  EXPECT_EQ(wrong.code(), Code::kPermission) << wrong.to_string();
  EXPECT_FALSE(contains(wrong, "wr0ng")) << wrong.to_string();
  EXPECT_EQ(open_status("redis://nobody:" + std::string(kSecret) + "@" + locked->endpoint()).code(),
            Code::kPermission);
  EXPECT_TRUE(open_status("redis://:%68unter2@" + locked->endpoint()).ok());
  EXPECT_TRUE(open_status("redis://default:hunter2@" + locked->endpoint()).ok());

  const auto open = make_redis_backend();
  TE_START_OR_SKIP(open);
  const Status needless = open_status("redis://:" + std::string(kSecret) + "@" + open->endpoint());
  EXPECT_EQ(needless.code(), Code::kPermission) << needless.to_string();
}

TEST(ServerErrors, ThePasswordIsShownNowhere) {
  LogCapture log(LogLevel::kDebug);
  const auto redis = make_redis_backend(kSecret);
  TE_START_OR_SKIP(redis);
  DirectoryOptions options;
  options.lease = std::chrono::seconds(1);
  auto directory = open_directory(redis->url(), options);
  ASSERT_TRUE(directory.ok()) << directory.status().to_string();
  EXPECT_EQ((*directory)->describe().find(kSecret), std::string::npos);
  ASSERT_TRUE((*directory)->publish("seg", {"h", 1, 1}, nullptr).ok());
  redis->stop();
  ASSERT_TRUE(eventually([&] { return log.count(LogLevel::kWarning, redis->endpoint()) > 0; }));
  EXPECT_FALSE(contains((*directory)->resolve("seg").status(), kSecret));
  EXPECT_EQ(log.all().find(kSecret), std::string::npos) << log.all();
}

std::string http_answer(const std::string& status, const std::string& body,
                        const std::string& header = {}) {
  return "HTTP/1.1 " + status + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         header + "Connection: close\r\n\r\n" + body;
}

// Answers every connection with what a function makes of the first bytes that came, and closes it.
class AnsweringServer {
 public:
  using Answer = std::function<std::string(const std::string& asked)>;

  explicit AnsweringServer(Answer answer) : answer_(std::move(answer)) {
    Result<Fd> listener = listen_tcp("127.0.0.1", 0, 16);
    if (listener.ok()) listener_ = listener.take();
    thread_ = std::thread([this] {
      while (!stopping_) serve_one();
    });
  }
  // The same answer to all.
  explicit AnsweringServer(const std::string& answer)
      : AnsweringServer([answer](const std::string&) { return answer; }) {}
  ~AnsweringServer() {
    stopping_ = true;
    thread_.join();
  }
  std::string endpoint() const { return local_address(listener_.get()).to_string(); }

 private:
  static bool readable(int fd) {
    pollfd entry{fd, POLLIN, 0};
    return ::poll(&entry, 1, 20) > 0;
  }

  void serve_one() {
    if (!readable(listener_.get())) return;
    const Fd peer(::accept(listener_.get(), nullptr, nullptr));
    std::string asked(8192, ' ');
    if (!readable(peer.get())) return;
    const ssize_t got = ::recv(peer.get(), asked.data(), asked.size(), 0);
    if (got <= 0) return;
    asked.resize(static_cast<size_t>(got));
    const std::string answer = answer_(asked);
    std::string_view rest = answer;
    while (!rest.empty()) {
      const ssize_t sent = ::send(peer.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      rest.remove_prefix(static_cast<size_t>(sent));
    }
    // The client takes the bytes before the connection is gone.
    ::shutdown(peer.get(), SHUT_WR);
    while (!stopping_ && ::recv(peer.get(), asked.data(), asked.size(), MSG_DONTWAIT) != 0) {
      readable(peer.get());
    }
  }

  Fd listener_;
  const Answer answer_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

// Errors that repeat what was asked.
std::string echo(const std::string& asked) {
  if (asked.starts_with("GET /version")) {
    return http_answer("200 OK", R"({"etcdserver":"3.4.0"})");
  }
  if (!asked.starts_with("*")) return http_answer("400 Bad Request", asked);
  std::string line = asked;
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c < ' '; }, ' ');
  return "-ERR what is " + line + "\r\n";
}

TEST(HostileServer, ThatRepeatsTheSecretGetsItIntoNoError) {
  const AnsweringServer server(echo);
  for (const char* scheme : {"redis://", "etcd://", "http://"}) {
    for (const std::string& secret : {std::string(kSecret), std::string(200, 'h')}) {
      DirectoryOptions options;
      options.timeout = std::chrono::milliseconds(1000);
      options.login.directory_user = "user";
      options.login.directory_password = Secret(secret);
      const Status status = open_directory(scheme + server.endpoint(), options).status();
      EXPECT_FALSE(status.ok());
      for (const std::string& part : {secret.substr(0, 7), base64_encode("user:" + secret)}) {
        EXPECT_FALSE(contains(status, part)) << scheme << " -> " << status.to_string();
      }
    }
  }
}

TEST(ServerErrors, RedisDatabasesAreApart) {
  const auto redis = make_redis_backend();
  TE_START_OR_SKIP(redis);
  auto zero = open_directory(redis->url(), {});
  auto five = open_directory(redis->url() + "/5", {});
  ASSERT_TRUE(zero.ok() && five.ok());
  ASSERT_TRUE((*five)->publish("seg", {"h", 1, 1}, nullptr).ok());
  EXPECT_TRUE((*five)->resolve("seg").ok());
  EXPECT_EQ((*zero)->resolve("seg").code(), Code::kNotFound);
  const Status none = open_status(redis->url() + "/9999");
  EXPECT_EQ(none.code(), Code::kInvalidArgument) << none.to_string();
}

// Sends one redis command as text, for what the store itself cannot do.
void redis_command(const Backend& redis, const std::string& line) {
  const Result<Connection> at = parse_connection(redis.url());
  const auto addresses = resolve_host(at->endpoints[0].host, at->endpoints[0].port);
  const int64_t deadline_ns = deadline_after_ms(now_ns(), 3000);
  auto stream = BlockingStream::connect(addresses->front(), deadline_ns);
  ASSERT_TRUE(stream.ok() && stream->send_all(line + "\r\n", deadline_ns).ok());
  char first = 0;
  ASSERT_TRUE(stream->receive_exact({&first, 1}, deadline_ns).ok());
  ASSERT_NE(first, '-') << line;
}

TEST(ServerErrors, ARedisKeyOfAnotherType) {
  const auto redis = make_redis_backend();
  TE_START_OR_SKIP(redis);
  redis_command(*redis, "LPUSH " + *record_key("seg") + " x");
  auto directory = open_directory(redis->url(), {});
  ASSERT_TRUE(directory.ok());
  const Status status = (*directory)->resolve("seg").status();
  EXPECT_EQ(status.code(), Code::kProtocol) << status.to_string();
  EXPECT_EQ((*directory)->publish("seg", {"h", 1, 1}, nullptr).code(), Code::kProtocol);
}

TEST(HostileServer, RedisAnswers) {
  const std::pair<std::string, const char*> cases[] = {
      {"*1000000000\r\n", "says '*1000000000'"},
      {"*-7\r\n", "says '*-7'"},
      {"$999999999\r\n" + std::string(200'000, 'x'), "longer than"},
      {"$-5\r\n", "malformed"},
      {":1\r\n:2\r\n", "more than was asked"},
      {":99999999999999999999999\r\n", "malformed"},
      {"%1\r\n+a\r\n+b\r\n", "says '%1'"},
      {"+" + std::string(70'000, 'x'), "longer than"},
      {std::string(16, '\0'), "not redis"},
      {"+OK", "no redis answer"},
  };
  for (const auto& [answer, says] : cases) {
    const AnsweringServer server(answer);
    const Status status =
        open_status("redis://" + server.endpoint(), std::chrono::milliseconds(1000));
    EXPECT_EQ(status.code(), Code::kProtocol)
        << answer.substr(0, 20) << " -> " << status.to_string();
    EXPECT_TRUE(contains(status, says)) << answer.substr(0, 20) << " -> " << status.to_string();
  }
}

TEST(HostileServer, HttpAnswers) {
  const std::pair<std::string, Code> cases[] = {
      {http_answer("302 Found", "", "Location: file:///etc/passwd\r\n"), Code::kProtocol},
      {http_answer("200 OK", std::string(100'000, 'x')), Code::kProtocol},
      {http_answer("401 Unauthorized", ""), Code::kPermission},
      {http_answer("503 Service Unavailable", "later"), Code::kUnavailable},
      {http_answer("507 Insufficient Storage", "full"), Code::kResource},
      {"garbage\r\n\r\n", Code::kProtocol},
      {"", Code::kProtocol},
  };
  for (const auto& [answer, code] : cases) {
    const AnsweringServer server(answer);
    const Status status =
        open_status("http://" + server.endpoint(), std::chrono::milliseconds(1000));
    EXPECT_EQ(status.code(), code) << answer.substr(0, 60) << " -> " << status.to_string();
  }
}

TEST(HostileServer, EtcdAnswers) {
  const std::pair<std::string, Code> cases[] = {
      {"7", Code::kProtocol},
      {"[]", Code::kProtocol},
      {R"({"keys":[]})", Code::kProtocol},
      {R"({"etcdserver":3})", Code::kProtocol},
      // The same text for both requests of the check: a version, then a range.
      {R"({"etcdserver":"3.4.0","kvs":7})", Code::kProtocol},
      {R"({"etcdserver":"3.4.0","kvs":[]})", Code::kProtocol},
      {R"({"etcdserver":"3.4.0","kvs":[7]})", Code::kProtocol},
      {R"({"etcdserver":"3.4.0","kvs":[{"value":7}]})", Code::kProtocol},
      {R"({"etcdserver":"3.4.0","kvs":[{"value":"***"}]})", Code::kProtocol},
      {R"({"error":"etcdserver: user name is empty","code":3})", Code::kPermission},
      {R"({"error":"etcdserver: no leader","code":14})", Code::kUnavailable},
      {R"({"error":{"message":7}})", Code::kProtocol},
  };
  for (const auto& [body, code] : cases) {
    const AnsweringServer server(http_answer("200 OK", body));
    const Status status =
        open_status("etcd://" + server.endpoint(), std::chrono::milliseconds(1000));
    EXPECT_EQ(status.code(), code) << body << " -> " << status.to_string();
  }
}

}  // namespace
}  // namespace te::test
