// Skopeo copies images with the Go modules of which skopeo consists. The program itself is not to be had as a module.
//
//	skopeo copy SOURCE TARGET                      as `skopeo copy --all docker://SOURCE docker://TARGET`
//	skopeo sync SOURCE-REPOSITORY TARGET-FOLDER    as `skopeo sync --src docker --dest docker --all`
//
// Both take the options of skopeo that the benchmark uses: no TLS, and a number of blobs that are copied at once.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"path"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
)

func main() {
	log.SetFlags(0)
	parallel := flag.Uint("image-parallel-copies", 0, "blobs of an image that are copied at once; 0 for the library's default")
	flag.Parse()
	if err := run(context.Background(), *parallel, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, parallel uint, arguments []string) error {
	if len(arguments) != 3 {
		return errors.New("usage: skopeo [--image-parallel-copies N] copy|sync SOURCE TARGET")
	}
	policy, err := signature.NewPolicyContext(&signature.Policy{
		Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()},
	})
	if err != nil {
		return err
	}
	defer policy.Destroy()
	insecure := &types.SystemContext{DockerInsecureSkipTLSVerify: types.OptionalBoolTrue}
	options := &copy.Options{
		ReportWriter:         os.Stdout,
		SourceCtx:            insecure,
		DestinationCtx:       insecure,
		ImageListSelection:   copy.CopyAllImages,
		MaxParallelDownloads: parallel,
	}
	switch command, source, target := arguments[0], arguments[1], arguments[2]; command {
	case "copy":
		return image(ctx, policy, options, source, target)
	case "sync":
		// As skopeo does: images that are at the target already are common.
		options.OptimizeDestinationImageAlreadyExists = true
		return sync(ctx, policy, options, source, target)
	default:
		return errors.New("there is no command " + command)
	}
}

// sync copies all tags of a repository into a folder of the target, one after the other.
func sync(ctx context.Context, policy *signature.PolicyContext, options *copy.Options, source, target string) error {
	repository, err := reference.ParseNormalizedNamed(source)
	if err != nil {
		return err
	}
	all, err := docker.ParseReference("//" + source)
	if err != nil {
		return err
	}
	tags, err := docker.GetRepositoryTags(ctx, options.SourceCtx, all)
	if err != nil {
		return err
	}
	goal := target + "/" + path.Base(reference.Path(repository))
	for _, tag := range tags {
		if err := image(ctx, policy, options, source+":"+tag, goal+":"+tag); err != nil {
			return err
		}
	}
	return nil
}

func image(ctx context.Context, policy *signature.PolicyContext, options *copy.Options, source, target string) error {
	from, err := docker.ParseReference("//" + source)
	if err != nil {
		return err
	}
	to, err := docker.ParseReference("//" + target)
	if err != nil {
		return err
	}
	_, err = copy.Image(ctx, policy, to, from, options)
	return err
}
