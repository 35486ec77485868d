// Command image writes a container image of one layer, made from a folder, as a docker-archive. It needs neither
// Docker nor a registry; containerd (ctr images import) and kind (kind load image-archive) read what it writes.
//
//	image -o FILE.tar -ref NAME:TAG -root FOLDER [-digest-tag] [-user UID:GID] [-env KEY=VALUE]... [-label KEY=VALUE]... [ENTRYPOINT...]
//
// It prints the image's reference, and nothing else, to standard output. The same folder gives the same image: times
// and owners of its files are not kept.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// options is what the command line asks for.
type options struct {
	out       string
	ref       string
	root      string
	arch      string
	digestTag bool // append the first 12 hex digits of the config's digest to the tag
	config    v1.Config
}

func main() {
	ref, err := run(parse())
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
	fmt.Println(ref)
}

func parse() options {
	var o options
	flag.StringVar(&o.out, "o", "", "the archive to write")
	flag.StringVar(&o.ref, "ref", "", "the image's name and tag")
	flag.StringVar(&o.root, "root", "", "the folder that becomes the image's root")
	flag.StringVar(&o.arch, "arch", runtime.GOARCH, "the architecture of the programs in it")
	flag.BoolVar(&o.digestTag, "digest-tag", false, "append the first 12 hex digits of the image's digest to the tag")
	flag.StringVar(&o.config.User, "user", "", "numeric UID:GID that runs the entrypoint")
	flag.Func("env", "KEY=VALUE of the environment (may be repeated)", func(s string) error {
		o.config.Env = append(o.config.Env, s)
		return nil
	})
	flag.Func("label", "KEY=VALUE label (may be repeated)", func(s string) error {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("want KEY=VALUE, got %q", s)
		}
		if o.config.Labels == nil {
			o.config.Labels = map[string]string{}
		}
		o.config.Labels[key] = value
		return nil
	})
	flag.Parse()
	o.config.Entrypoint = flag.Args()
	return o
}

// run writes the archive and returns the reference that the image has in it.
func run(o options) (string, error) {
	// The layer is read several times (digest, size, archive), so its tar is made once, beside the archive.
	layerTar := o.out + ".layer"
	defer os.Remove(layerTar)
	if err := writeLayer(layerTar, o.root); err != nil {
		return "", err
	}
	img, err := build(layerTar, o)
	if err != nil {
		return "", err
	}
	ref, err := reference(o, img)
	if err != nil {
		return "", err
	}
	if err := tarball.WriteToFile(o.out, ref, img); err != nil {
		return "", fmt.Errorf("writing %s: %w", o.out, err)
	}
	return ref.String(), nil
}

func build(layerTar string, o options) (v1.Image, error) {
	// The archive goes to a program on this machine: packing it would only cost time.
	layer, err := tarball.LayerFromFile(layerTar, tarball.WithCompression(compression.None))
	if err != nil {
		return nil, fmt.Errorf("reading the layer: %w", err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, fmt.Errorf("adding the layer: %w", err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	file.OS, file.Architecture, file.Config = "linux", o.arch, o.config
	return mutate.ConfigFile(img, file)
}

func reference(o options, img v1.Image) (name.Tag, error) {
	ref := o.ref
	if o.digestTag {
		digest, err := img.ConfigName()
		if err != nil {
			return name.Tag{}, fmt.Errorf("digest: %w", err)
		}
		ref += "-" + digest.Hex[:12]
	}
	return name.NewTag(ref, name.StrictValidation)
}
