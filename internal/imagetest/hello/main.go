// Command hello is what the test images run. It proves that all layers of its
// image arrived: it prints the greeting that one layer holds, and the checksum
// of the large file that another one does.
package main

import (
	"hash/crc32"
	"os"
	"strconv"
)

func main() {
	greeting, err := os.ReadFile("/etc/greeting")
	if err != nil {
		fail(err)
	}
	large, err := os.ReadFile("/var/large")
	if err != nil {
		fail(err)
	}
	checksum := strconv.FormatUint(uint64(crc32.ChecksumIEEE(large)), 16)
	if _, err := os.Stdout.WriteString(string(greeting) + " " + checksum + "\n"); err != nil {
		fail(err)
	}
}

func fail(err error) {
	_, _ = os.Stderr.WriteString("hello: " + err.Error() + "\n")
	os.Exit(1)
}
