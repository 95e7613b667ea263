// Load sends requests to a registry on a number of kept connections, and prints their seconds.
//
//	load -url http://HOST:PORT -connections 16 -requests 4000 get /v2/team/app/manifests/v1
//	load ... push team/app BYTES        new blobs, each by a POST and a PUT
//	load ... put team/app TEMPLATE      new manifests from a file, in which SERIAL is replaced
//	load ... upload team/app FILE      one large blob, whose last bytes are changed first
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const manifestType = "application/vnd.oci.image.manifest.v1+json"

var (
	base        = flag.String("url", "", "the registry")
	user        = flag.String("user", "", "the user, if any")
	password    = flag.String("password", "", "the password")
	connections = flag.Int("connections", 1, "connections that send requests, one after the other on each")
	requests    = flag.Int("requests", 1, "requests in all")
	client      *http.Client
	run         = rawHex(8)
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	client = &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{
		MaxIdleConnsPerHost: *connections, MaxConnsPerHost: *connections, DisableCompression: true,
		ReadBufferSize: 256 << 10, WriteBufferSize: 256 << 10,
	}}
	once := work(flag.Args())
	// The connections are opened, and the login is verified, before the measurement.
	all(*connections, func(int) { call("GET", *base+"/v2/", "", nil, 0, 200) })
	begun := time.Now()
	all(*requests, once)
	fmt.Printf("%.6f\n", time.Since(begun).Seconds())
}

func work(arguments []string) func(int) {
	at := func(index int) string {
		if index >= len(arguments) {
			log.Fatalf("missing arguments: %v", arguments)
		}
		return arguments[index]
	}
	switch at(0) {
	case "get":
		target := *base + at(1)
		return func(int) { call("GET", target, "", nil, 0, 200) }
	case "push":
		size, err := strconv.Atoi(at(2))
		check(err)
		return func(int) {
			content := make([]byte, size)
			_, err := rand.Read(content)
			check(err)
			sum := sha256.Sum256(content)
			push(at(1), bytes.NewReader(content), int64(size), "sha256:"+hex.EncodeToString(sum[:]))
		}
	case "put":
		template, err := os.ReadFile(at(2))
		check(err)
		return func(number int) {
			raw := bytes.ReplaceAll(template, []byte("SERIAL"), []byte(fmt.Sprintf("%s-%d", run, number)))
			target := fmt.Sprintf("%s/v2/%s/manifests/next%d", *base, at(1), number%8)
			call("PUT", target, manifestType, bytes.NewReader(raw), int64(len(raw)), 201)
		}
	case "upload":
		size, digest := renew(at(2))
		return func(int) {
			file, err := os.Open(at(2))
			check(err)
			defer file.Close()
			push(at(1), file, size, digest)
		}
	}
	log.Fatalf("unknown work: %v", arguments)
	return nil
}

// renew changes the last bytes of a file, and returns its size and digest.
func renew(name string) (int64, string) {
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	check(err)
	defer file.Close()
	about, err := file.Stat()
	check(err)
	_, err = file.WriteAt([]byte(run), about.Size()-int64(len(run)))
	check(err)
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	check(err)
	return about.Size(), "sha256:" + hex.EncodeToString(hash.Sum(nil))
}

func push(repository string, content io.Reader, size int64, digest string) {
	location := call("POST", *base+"/v2/"+repository+"/blobs/uploads/", "", nil, 0, 202)
	target, err := url.Parse(location)
	check(err)
	root, err := url.Parse(*base)
	check(err)
	target = root.ResolveReference(target)
	query := target.Query()
	query.Set("digest", digest)
	target.RawQuery = query.Encode()
	call("PUT", target.String(), "application/octet-stream", content, size, 201)
}

// call sends a request, reads the response to its end, and returns its Location.
func call(method, target, kind string, body io.Reader, size int64, expected int) string {
	request, err := http.NewRequest(method, target, body)
	check(err)
	request.ContentLength = size
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	if method == "GET" {
		request.Header.Set("Accept", manifestType)
	}
	if *user != "" {
		request.SetBasicAuth(*user, *password)
	}
	response, err := client.Do(request)
	check(err)
	defer response.Body.Close()
	if response.StatusCode != expected {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 500))
		log.Fatalf("%s %s: %s %s", method, target, response.Status, text)
	}
	_, err = io.CopyBuffer(discard{}, response.Body, make([]byte, 64<<10))
	check(err)
	return response.Header.Get("Location")
}

// discard has no ReadFrom, so that the buffer of io.CopyBuffer is used.
type discard struct{}

func (discard) Write(content []byte) (int, error) { return len(content), nil }

// all calls once with the numbers below count, from as many goroutines as there are connections.
func all(count int, once func(int)) {
	var next atomic.Int64
	var ended sync.WaitGroup
	for range make([]struct{}, *connections) {
		ended.Add(1)
		go func() {
			defer ended.Done()
			for number := int(next.Add(1)) - 1; number < count; number = int(next.Add(1)) - 1 {
				once(number)
			}
		}()
	}
	ended.Wait()
}

func rawHex(size int) string {
	content := make([]byte, size)
	_, err := rand.Read(content)
	check(err)
	return hex.EncodeToString(content)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
