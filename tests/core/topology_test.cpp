#include "core/topology.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace te {
namespace {

Nic nic(const std::string& name, std::vector<uint32_t> nodes, std::vector<std::string> bridges = {},
        const std::string& state = "active") {
  Nic made;
  made.name = name;
  made.place = {"", std::move(bridges), std::move(nodes)};
  made.ports.resize(1);
  made.ports[0].state = state;
  return made;
}

Topology two_nodes() {
  Topology topology;
  topology.nodes = {{0, 0, 1 << 30}, {1, 1, 1 << 30}};
  topology.nics = {nic("mlx5_0", {0}), nic("mlx5_1", {1}), nic("mlx5_bond_0", {1})};
  return topology;
}

std::string refused(const std::string& matrix) {
  const Result<NicMatrix> parsed = NicMatrix::parse(matrix);
  EXPECT_EQ(parsed.code(), Code::kInvalidArgument) << matrix;
  return parsed.status().message();
}

TEST(Topology, AMatrixGoesOutAndIn) {
  const std::string json = make_nic_matrix(two_nodes()).to_json();
  EXPECT_EQ(nlohmann::json::parse(json), nlohmann::json::parse(R"({
    "cpu:0": [["mlx5_0"], ["mlx5_1", "mlx5_bond_0"]],
    "cpu:1": [["mlx5_1", "mlx5_bond_0"], ["mlx5_0"]]})"));
  const Result<NicMatrix> again = NicMatrix::parse(json);
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  EXPECT_EQ(again->to_json(), json);
  EXPECT_TRUE(check_nic_matrix(*again, two_nodes()).ok());
}

TEST(Topology, BehindASwitchFewerBridgesAreNearer) {
  Topology topology = two_nodes();
  const std::vector<std::string> shared = {"0000:40", "0000:40:01.0", "0000:41:00.0"};
  const auto below = [&](std::vector<std::string> more) {
    more.insert(more.begin(), shared.begin(), shared.end());
    return more;
  };
  topology.gpus = {{0, "", {"0000:45:00.0", below({"0000:42:00.0"}), {0}}}};
  topology.nics = {nic("far", {0}, below({"0000:42:01.0", "0000:43:00.0", "0000:44:00.0"})),
                   nic("near", {0}, below({"0000:42:02.0"})),
                   nic("bridge", {0}, {"0000:40", "0000:40:03.0"}),
                   nic("node", {0}, {"0000:60", "0000:60:01.0"}), nic("other", {1}, {"0000:80"})};
  const NicMatrix matrix = make_nic_matrix(topology);
  const NicMatrix::Row* row = matrix.find("cuda:0");
  ASSERT_NE(row, nullptr);
  EXPECT_EQ(row->preferred, std::vector<std::string>{"near"});
  EXPECT_EQ(row->other, (std::vector<std::string>{"far", "bridge", "node", "other"}));
}

TEST(Topology, WithoutAUsableNicNothingIsPreferred) {
  Topology topology = two_nodes();
  for (Nic& each : topology.nics) each.ports[0].state = "down";
  const NicMatrix matrix = make_nic_matrix(topology);
  EXPECT_TRUE(matrix.find("cpu:0")->preferred.empty());
  EXPECT_EQ(matrix.find("cpu:0")->other.size(), 3u);
}

TEST(NicMatrix, ARowForEveryOtherLocation) {
  const Result<NicMatrix> matrix =
      NicMatrix::parse(R"({"*": [["mlx5_0"]], "cpu:1": [["mlx5_1"], []]})");
  ASSERT_TRUE(matrix.ok()) << matrix.status().to_string();
  EXPECT_EQ(matrix->find("cpu:1")->preferred.at(0), "mlx5_1");
  EXPECT_EQ(matrix->find("cuda:3")->preferred.at(0), "mlx5_0");
  EXPECT_EQ(NicMatrix::parse(R"({"cpu:0": [["a"]]})")->find("cpu:1"), nullptr);
}

TEST(NicMatrix, SaysWhatIsWrongAndWhere) {
  EXPECT_NE(refused("{").find("JSON"), std::string::npos);
  EXPECT_NE(refused("[]").find("names no location"), std::string::npos);
  EXPECT_NE(refused("{}").find("names no location"), std::string::npos);
  EXPECT_NE(refused(R"({"gpu:0": [["a"]]})").find("'gpu:0'"), std::string::npos);
  EXPECT_NE(refused(R"({"cpu:": [["a"]]})").find("'cpu:'"), std::string::npos);
  EXPECT_NE(refused(R"({"cpu:0": ["a"]})").find("'cpu:0' has something"), std::string::npos);
  EXPECT_NE(refused(R"({"cpu:0": [["a"], ["b"], ["c"]]})").find("two lists"), std::string::npos);
  EXPECT_NE(refused(R"({"cpu:0": [[1]]})").find("not the name"), std::string::npos);
  EXPECT_NE(refused(R"({"cpu:0": [["a"], ["a"]]})").find("'a' twice"), std::string::npos);
  EXPECT_NE(refused(R"({"cpu:0": [[], []]})").find("no NIC"), std::string::npos);
  EXPECT_NE(refused(R"({"cpu:0": [["a"]], "cpu:0": [["b"]]})").find("there twice"),
            std::string::npos);
  EXPECT_NE(refused(std::string(2 << 20, ' ')).find("bytes"), std::string::npos);
  EXPECT_NE(refused(std::string(1 << 20, '[')).find("JSON"), std::string::npos);
}

TEST(NicMatrix, MustBeOfThisMachine) {
  const auto check = [](const char* json) {
    return check_nic_matrix(*NicMatrix::parse(json), two_nodes());
  };
  EXPECT_TRUE(check(R"({"*": [["mlx5_bond_0"]]})").ok());
  const Status nic = check(R"({"cpu:0": [["mlx5_0"], ["mlx5_7"]]})");
  EXPECT_EQ(nic.code(), Code::kNotFound);
  EXPECT_NE(nic.message().find("'mlx5_7'"), std::string::npos) << nic.message();
  EXPECT_NE(nic.message().find("mlx5_0, mlx5_1, mlx5_bond_0"), std::string::npos) << nic.message();
  const Status location = check(R"({"cpu:2": [["mlx5_0"]]})");
  EXPECT_EQ(location.code(), Code::kNotFound);
  EXPECT_NE(location.message().find("cpu:0, cpu:1"), std::string::npos) << location.message();
}

TEST(NicFilter, KeepsOrLeavesOut) {
  const auto kept = [](const char* filter) {
    Topology topology = two_nodes();
    const Status status = keep_nics(filter, topology);
    std::string names = status.ok() ? "" : "refused: " + status.message();
    for (const Nic& each : topology.nics) names += each.name + " ";
    return names;
  };
  EXPECT_EQ(kept(""), "mlx5_0 mlx5_1 mlx5_bond_0 ");
  EXPECT_EQ(kept("mlx5_1"), "mlx5_1 ");
  EXPECT_EQ(kept("mlx5_bond_0,mlx5_0"), "mlx5_0 mlx5_bond_0 ");
  EXPECT_EQ(kept("mlx5_b*"), "mlx5_bond_0 ");
  EXPECT_EQ(kept("^mlx5_b*,mlx5_0"), "mlx5_1 ");
  EXPECT_EQ(kept("^gone_0"), "mlx5_0 mlx5_1 mlx5_bond_0 ");
  EXPECT_EQ(kept("*"), "mlx5_0 mlx5_1 mlx5_bond_0 ");
  EXPECT_TRUE(kept("mlx5_7").starts_with("refused: no NIC is called 'mlx5_7'"));
  EXPECT_TRUE(kept("mlx5_0,").starts_with("refused: "));
  EXPECT_TRUE(kept("^").starts_with("refused: "));
}

}  // namespace
}  // namespace te
