module tagferry/bench/load

go 1.21
