#include "topology_view.h"

#include <gtest/gtest.h>

namespace te::tool {
namespace {

using Json = nlohmann::ordered_json;

TEST(TopologyView, DrawsWhoIsNextToWhom) {
  const Json topology = Json::parse(R"({
    "source": "machine.xml",
    "nodes": [{"location": "cpu:0", "package": 0, "bytes": 1073741824},
              {"location": "cpu:1", "package": 1, "bytes": 0}],
    "gpus": [{"location": "cuda:0", "model": "H100", "nodes": [0],
              "bridges": ["0000:10", "0000:10:01.0", "0000:11:00.0"]}],
    "nics": [{"name": "mlx5_0", "interface": "ib0", "nodes": [0],
              "bridges": ["0000:10", "0000:10:01.0", "0000:11:01.0"],
              "ports": [{"number": 1, "state": "active", "link_layer": "InfiniBand",
                         "bits_per_s": 200000000000}]},
             {"name": "rxe0", "nodes": [], "ports": [{"number": 1, "state": ""}]}],
    "proximity": {"cpu:0": {"mlx5_0": "node", "rxe0": "node"},
                  "cuda:0": {"mlx5_0": "switch", "rxe0": "node"}},
    "nic_priority_matrix": {"cpu:0": [["mlx5_0", "rxe0"], []], "cuda:0": [["mlx5_0"], ["rxe0"]]}
  })");
  EXPECT_EQ(topology_view(topology),
            "machine.xml: 2 memory nodes, 1 GPU, 2 RDMA devices\n"
            "\n"
            "├─ package 0\n"
            "│  └─ cpu:0  1024 MiB\n"
            "│     └─ PCI 0000:10:01.0\n"
            "│        ├─ cuda:0  H100\n"
            "│        └─ mlx5_0  port 1: active InfiniBand 200 Gb/s  (ib0)\n"
            "├─ package 1\n"
            "│  └─ cpu:1  0 MiB\n"
            "└─ rxe0  port 1: state not known\n"
            "\n"
            "What each RDMA device shares with each location (* preferred there)\n"
            "location  mlx5_0    rxe0\n"
            "cpu:0     node *    node *\n"
            "cuda:0    switch *  node\n");
}

TEST(TopologyView, WithoutDevicesThereIsNoTable) {
  const Json topology = Json::parse(
      R"({"source": "this machine", "nodes": [{"location": "cpu:0", "package": 0, "bytes": 0}]})");
  EXPECT_EQ(topology_view(topology),
            "this machine: 1 memory node, 0 GPUs, 0 RDMA devices\n"
            "\n"
            "└─ package 0\n"
            "   └─ cpu:0  0 MiB\n");
}

}  // namespace
}  // namespace te::tool
