#include "metadata_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "authority.h"
#include "backends.h"
#include "base/fd.h"
#include "directory/http_client.h"
#include "directory/record.h"

namespace te::test {
namespace {

using tool::MetadataServer;
using tool::MetadataServerOptions;

MetadataServerOptions loopback() {
  MetadataServerOptions options;
  options.host = "127.0.0.1";
  options.port = 0;
  return options;
}

class Metadata : public testing::Test {
 protected:
  void start(const MetadataServerOptions& options) {
    server_ = std::make_unique<MetadataServer>(options);
    const Result<uint16_t> port = server_->start();
    ASSERT_TRUE(port.ok()) << port.status().to_string();
    ASSERT_NE(*port, 0);
    origin_ = "http://127.0.0.1:" + std::to_string(*port);
  }

  HttpResponse ask(std::string_view method, const std::string& path, std::string_view body = {},
                   std::vector<std::string> headers = {}) {
    const Result<HttpResponse> response = client_.perform(
        {method, origin_ + path, body, std::move(headers), std::chrono::milliseconds(5000)});
    EXPECT_TRUE(response.ok()) << response.status().to_string();
    return response.ok() ? *response : HttpResponse{};
  }

  std::unique_ptr<MetadataServer> server_;
  HttpClient client_;
  std::string origin_;
};

TEST_F(Metadata, PutGetDelete) {
  start(loopback());
  EXPECT_EQ(ask("GET", "/metadata?key=a").status, 404);
  EXPECT_EQ(ask("PUT", "/metadata?key=a", "one").status, 201);
  EXPECT_EQ(ask("PUT", "/metadata?key=a", "two").status, 200);
  const HttpResponse got = ask("GET", "/metadata?key=a");
  EXPECT_EQ(got.status, 200);
  EXPECT_EQ(got.body, "two");
  EXPECT_EQ(ask("DELETE", "/metadata?key=a").status, 200);
  EXPECT_EQ(ask("DELETE", "/metadata?key=a").status, 404);
  EXPECT_EQ(ask("GET", "/metadata?key=a").status, 404);
}

TEST_F(Metadata, IfNoneMatchCreatesOnly) {
  start(loopback());
  EXPECT_EQ(ask("PUT", "/metadata?key=a", "one", {"If-None-Match: *"}).status, 201);
  EXPECT_EQ(ask("PUT", "/metadata?key=a", "two", {"If-None-Match: *"}).status, 412);
  EXPECT_EQ(ask("GET", "/metadata?key=a").body, "one");
}

TEST_F(Metadata, WrongRequests) {
  start(loopback());
  EXPECT_EQ(ask("PUT", "/metadata", "x").status, 400);
  EXPECT_EQ(ask("PUT", "/metadata?key=", "x").status, 400);
  EXPECT_EQ(ask("DELETE", "/metadata").status, 400);
  EXPECT_EQ(ask("GET", "/metadata?key=").status, 400);
  EXPECT_EQ(ask("POST", "/metadata?key=a", "x").status, 405);
  EXPECT_EQ(ask("PUT", "/elsewhere?key=a", "x").status, 404);
  EXPECT_EQ(ask("GET", "/metadata/?key=a").status, 404);
}

TEST_F(Metadata, LimitsAreKept) {
  MetadataServerOptions options = loopback();
  options.max_entries = 2;
  options.max_value_bytes = 10;
  start(options);
  EXPECT_EQ(ask("PUT", "/metadata?key=a", std::string(10, 'x')).status, 201);
  EXPECT_EQ(ask("PUT", "/metadata?key=a", std::string(11, 'x')).status, 413);
  EXPECT_EQ(ask("PUT", "/metadata?key=" + std::string(2049, 'k'), "x").status, 413);
  EXPECT_EQ(ask("PUT", "/metadata?key=" + std::string(2048, 'k'), "x").status, 201);
  EXPECT_EQ(ask("PUT", "/metadata?key=c", "x").status, 507);
  EXPECT_EQ(ask("PUT", "/metadata?key=a", "y").status, 200) << "what exists may still change";
  EXPECT_EQ(ask("DELETE", "/metadata?key=a").status, 200);
  EXPECT_EQ(ask("PUT", "/metadata?key=c", "x").status, 201);
}

TEST_F(Metadata, PagesForPeopleAndProbes) {
  start(loopback());
  ask("PUT", "/metadata?key=" + percent_encode("seg \xff/1"), "12345");
  EXPECT_EQ(ask("GET", "/health").body, "ok\n");
  const HttpResponse page = ask("GET", "/");
  EXPECT_EQ(page.status, 200);
  EXPECT_NE(page.body.find("1 of at most 100000 entries, 5 bytes"), std::string::npos) << page.body;
  const HttpResponse list = ask("GET", "/metadata");
  const nlohmann::json summary = nlohmann::json::parse(list.body, nullptr, false);
  ASSERT_TRUE(summary.is_object()) << list.body;
  EXPECT_EQ(summary["entries"], 1);
  EXPECT_EQ(summary["keys"].size(), 1u);
}

TEST_F(Metadata, AnotherPath) {
  MetadataServerOptions options = loopback();
  options.path = "/";
  start(options);
  EXPECT_EQ(ask("PUT", "/?key=a", "x").status, 201);
  EXPECT_EQ(ask("GET", "/?key=a").body, "x");
  options.path = "no-slash";
  EXPECT_EQ(MetadataServer(options).start().code(), Code::kInvalidArgument);
}

TEST_F(Metadata, ATakenPortIsNamed) {
  MetadataServerOptions options = loopback();
  MetadataServer first(options);
  const Result<uint16_t> port = first.start();
  ASSERT_TRUE(port.ok());
  EXPECT_EQ(first.start().code(), Code::kInvalidArgument);
  options.port = *port;
  MetadataServer second(options);
  const Result<uint16_t> refused = second.start();
  EXPECT_EQ(refused.code(), Code::kAlreadyExists);
  EXPECT_NE(refused.status().message().find(std::to_string(*port)), std::string::npos);
  first.stop();
  first.stop();
  const Result<uint16_t> now_free = second.start();
  EXPECT_TRUE(now_free.ok()) << now_free.status().to_string();
  options.host = "192.0.2.1";
  EXPECT_EQ(MetadataServer(options).start().code(), Code::kResource);
}

TEST_F(Metadata, StartsEmptyAgain) {
  MetadataServerOptions options = loopback();
  options.port = free_port();
  start(options);
  ask("PUT", "/metadata?key=a", "x");
  server_->stop();
  ASSERT_TRUE(server_->start().ok());
  EXPECT_EQ(ask("GET", "/metadata?key=a").status, 404);
}

class Tokens : public Metadata {
 protected:
  static constexpr const char* kOne = "Authorization: Bearer the-first-of-the-tokens";
  static constexpr const char* kTwo = "Authorization: Bearer the-second-of-the-tokens";

  MetadataServerOptions options_with_tokens() const {
    MetadataServerOptions options = loopback();
    options.token_file = authority_.write(
        "tokens", "# of the tests\nthe-first-of-the-tokens\n\nthe-second-of-the-tokens\r\n");
    return options;
  }
  Status refused(const MetadataServerOptions& options) const {
    const Status status = MetadataServer(options).start().status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << status.to_string();
    return status;
  }

  Authority authority_;
};

TEST_F(Tokens, OnlyWhoHasOneWrites) {
  start(options_with_tokens());
  for (const std::vector<std::string>& headers :
       std::vector<std::vector<std::string>>{{},
                                             {"Authorization: Bearer"},
                                             {"Authorization: Bearer the-first-of-the-token"},
                                             {"Authorization: Bearer the-first-of-the-tokens2"},
                                             {"Authorization: Basic the-first-of-the-tokens"},
                                             {"Authorization: Bearer # of the tests"}}) {
    EXPECT_EQ(ask("PUT", "/metadata?key=a", "one", headers).status, 401);
    EXPECT_EQ(ask("DELETE", "/metadata?key=a", "", headers).status, 401);
  }
  EXPECT_EQ(ask("PUT", "/metadata?key=a", "one", {kOne}).status, 201);
  EXPECT_EQ(ask("GET", "/metadata?key=a").body, "one");
  EXPECT_EQ(ask("GET", "/").status, 200);
}

TEST_F(Tokens, OnlyItsOwnerChangesAnEntry) {
  start(options_with_tokens());
  EXPECT_EQ(ask("PUT", "/metadata?key=a", "one", {kOne}).status, 201);
  EXPECT_EQ(ask("PUT", "/metadata?key=a", "two", {kTwo}).status, 409);
  EXPECT_EQ(ask("PUT", "/metadata?key=a", "two", {kTwo, "If-None-Match: *"}).status, 412);
  EXPECT_EQ(ask("DELETE", "/metadata?key=a", "", {kTwo}).status, 409);
  EXPECT_EQ(ask("GET", "/metadata?key=a").body, "one");
  EXPECT_EQ(ask("PUT", "/metadata?key=a", "three", {kOne}).status, 200);
  EXPECT_EQ(ask("DELETE", "/metadata?key=a", "", {kOne}).status, 200);
  EXPECT_EQ(ask("PUT", "/metadata?key=a", "two", {kTwo}).status, 201) << "it has no owner any more";
}

TEST_F(Tokens, AnEngineThatRestartsReplacesWhatItLeft) {
  start(options_with_tokens());
  DirectoryOptions first, second;
  first.login.directory_token = Secret("the-first-of-the-tokens");
  second.login.directory_token = Secret("the-second-of-the-tokens");
  const std::string left = *encode_record({"10.0.0.1", 1, 0xaaaa});  // by a run that crashed
  ASSERT_TRUE(*open_store(origin_ + "/metadata", first)->create(*record_key("seg"), left));
  const Locator again{"10.0.0.1", 2, 0xbbbb};
  const auto dead = [](const Locator&) { return false; };
  auto stranger = open_directory(origin_ + "/metadata", second);
  auto owner = open_directory(origin_ + "/metadata", first);
  ASSERT_TRUE(stranger.ok() && owner.ok());
  const Status taken = (*stranger)->publish("seg", again, dead);
  EXPECT_EQ(taken.code(), Code::kPermission) << taken.to_string();
  EXPECT_NE(taken.message().find("another token"), std::string::npos) << taken.to_string();
  const Status published = (*owner)->publish("seg", again, dead);
  EXPECT_TRUE(published.ok()) << published.to_string();
  EXPECT_EQ(*(*stranger)->resolve("seg"), again);
}

TEST_F(Tokens, ReadsAreProtectedWhereThatIsAskedFor) {
  MetadataServerOptions options = options_with_tokens();
  options.protect_reads = true;
  start(options);
  EXPECT_EQ(ask("PUT", "/metadata?key=a", "one", {kOne}).status, 201);
  for (const char* page : {"/metadata?key=a", "/metadata", "/"}) {
    EXPECT_EQ(ask("GET", page).status, 401) << page;
    EXPECT_EQ(ask("GET", page, "", {kTwo}).status, 200) << page;
  }
  EXPECT_EQ(ask("GET", "/health").status, 200);
}

TEST_F(Tokens, FilesThatCannotBeUsedAreNamedAndNotShown) {
  MetadataServerOptions options = loopback();
  for (const char* text : {"", "# nothing\n", "tooshort\n", "a-token-of-two words\n"}) {
    options.token_file = authority_.write("tokens", text);
    const Status status = refused(options);
    EXPECT_NE(status.message().find(options.token_file), std::string::npos) << status.to_string();
    EXPECT_EQ(status.message().find("words"), std::string::npos) << status.to_string();
    EXPECT_EQ(status.message().find("tooshort"), std::string::npos) << status.to_string();
  }
  options.token_file = "/nonexistent";
  (void)refused(options);
  options.token_file.clear();
  options.protect_reads = true;
  (void)refused(options);

  options = loopback();
  options.tls_ca = authority_.ca();
  (void)refused(options);
  const Authority::Issued own = authority_.issue(), other = authority_.issue();
  options.tls_cert = own.cert;
  options.tls_key = other.key;
  EXPECT_NE(refused(options).message().find(other.key), std::string::npos);
  options.tls_key = own.key;
  options.tls_ca = own.key;
  EXPECT_NE(refused(options).message().find("--tls-ca"), std::string::npos);
  options.tls_cert = "/nonexistent";
  EXPECT_NE(refused(options).message().find("--tls-cert"), std::string::npos);
}

// Runs the command in a child; its stdout comes through a pipe.
TEST(MetadataCommand, ServesUntilASignal) {
  for (const int signal : {SIGTERM, SIGINT}) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const Fd read_end(ends[0]);
    Fd write_end(ends[1]);
    std::fflush(stdout);  // or the child writes it again
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(write_end.get(), STDOUT_FILENO);
      ::_exit(tool::run_metadata_server(loopback()));
    }
    write_end.reset();
    std::string line;
    char byte;
    while (line.find('\n') == std::string::npos && ::read(read_end.get(), &byte, 1) == 1) {
      line.push_back(byte);
    }
    const std::string url = line.substr(std::min(line.find("http://"), line.size()));
    HttpClient client;
    const Result<HttpResponse> got =
        client.perform({"GET", url.substr(0, url.find('\n')), {}, {}, std::chrono::seconds(5)});
    EXPECT_TRUE(got.ok() && got->status == 200) << line << got.status().to_string();
    ::kill(child, signal);
    int ended = 0;
    ASSERT_EQ(::waitpid(child, &ended, 0), child);
    EXPECT_TRUE(WIFEXITED(ended) && WEXITSTATUS(ended) == 0) << ended;
  }
}

// As the system does to it when accept() fails for good.
void shut_listeners() {
  for (int fd = 3; fd < 256; ++fd) {
    int listens = 0;
    socklen_t length = sizeof listens;
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens != 0) {
      ::shutdown(fd, SHUT_RDWR);
    }
  }
}

TEST(MetadataCommand, EndsWhenItCannotAcceptAnyMore) {
  std::fflush(stdout);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::thread([] {
      for (;; std::this_thread::sleep_for(std::chrono::milliseconds(20))) shut_listeners();
    }).detach();
    ::_exit(tool::run_metadata_server(loopback()));
  }
  int ended = 0;
  ASSERT_EQ(::waitpid(child, &ended, 0), child);
  EXPECT_TRUE(WIFEXITED(ended) && WEXITSTATUS(ended) == 1) << ended;
}

TEST(MetadataCommand, ATakenPortIsAFailure) {
  MetadataServer first(loopback());
  const Result<uint16_t> port = first.start();
  ASSERT_TRUE(port.ok());
  MetadataServerOptions options = loopback();
  options.port = *port;
  testing::internal::CaptureStderr();
  EXPECT_EQ(tool::run_metadata_server(options), 1);
  EXPECT_NE(testing::internal::GetCapturedStderr().find(std::to_string(*port)), std::string::npos);
}

}  // namespace
}  // namespace te::test
