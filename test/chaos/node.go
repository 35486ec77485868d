package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// process is one of the machine, in a container of a pod.
type process struct {
	pid int
	// program is the first word of its command line.
	program string
	// container is its ID.
	container, podUID string
}

// processes are all that are in pods of the cluster, by their cgroups: /.../pod<UID>/<container>.
func processes() []process {
	var all []process
	files, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, file := range files {
		groups, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		_, rest, found := strings.Cut(string(groups), "/kubepods/")
		if !found {
			continue
		}
		path, _, _ := strings.Cut(rest, "\n")
		_, path, _ = strings.Cut("/"+path, "/pod")
		uid, container, _ := strings.Cut(path, "/")
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		program, _, _ := bytes.Cut(command, []byte{0})
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		all = append(all, process{pid, string(program), container, uid})
	}
	return all
}

// find the process of a pod that runs a program; false if there is none.
func find(podUID, program string) (process, bool) {
	for _, p := range processes() {
		if p.podUID == podUID && p.program == program {
			return p, true
		}
	}
	return process{}, false
}

// processesOf these pods, as program and pod.
func processesOf(podUIDs map[string]bool) []string {
	var all []string
	for _, p := range processes() {
		if podUIDs[p.podUID] {
			all = append(all, p.program+" of "+p.podUID)
		}
	}
	return all
}

func (p process) signal(s syscall.Signal) error { return syscall.Kill(p.pid, s) }

// state is the letter of /proc: T is stopped; empty if it has ended.
func (p process) state() string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest[:min(1, len(rest))]
}

func (p process) hasEnded() bool { s := p.state(); return s == "" || s == "Z" || s == "X" }

// goOn has all operators go on that were stopped.
func (w *world) goOn() error {
	for _, p := range processes() {
		if p.program == managerProgram && p.state() == "T" {
			if err := p.signal(syscall.SIGCONT); err != nil {
				return err
			}
		}
	}
	return nil
}

// Programs of the pods.
const (
	managerProgram = "/manager"
	agentProgram   = "/workerpool/agent"
)

// table is the nftables table of the partitions, and nothing else.
const table = "workerpool-chaos"

// partition drops all between the workers at these addresses and whoever serves their sessions. What they tell the ledger goes
// on, and so does all else.
func partition(ctx context.Context, ips []string) error {
	set := strings.Join(ips, ", ")
	rules := fmt.Sprintf(`
table ip %[1]s
delete table ip %[1]s
table ip %[1]s {
	chain forward {
		type filter hook forward priority -10; policy accept;
		ip saddr { %[2]s } tcp dport 9443 tcp flags & (syn | ack) == syn counter name dialled drop
		ip saddr { %[2]s } tcp dport 9443 counter drop
		ip daddr { %[2]s } tcp sport 9443 counter drop
	}
	counter dialled { }
}`, table, set)
	file, err := os.CreateTemp("", "chaos-*.nft")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	if _, err := file.WriteString(rules); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	_, err = output(ctx, "nft", "-f", file.Name())
	return err
}

// dialled is how many dials the partition has dropped: an agent dials when its session is lost.
func dialled(ctx context.Context) int {
	out, err := output(ctx, "nft", "list", "counter", "ip", table, "dialled")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(out, "packets ")
	number, _, _ := strings.Cut(rest, " ")
	n, _ := strconv.Atoi(number)
	return n
}

// removePartition ends it; it is no error if there is none.
func removePartition(ctx context.Context) error {
	if _, err := output(ctx, "nft", "list", "table", "ip", table); err != nil {
		return nil //nolint:nilerr // there is none
	}
	_, err := output(ctx, "nft", "delete", "table", "ip", table)
	return err
}

// daemonPID is the process of a daemon of the cluster; 0 if it does not run.
func daemonPID(name string) int {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		command, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		program, rest, _ := bytes.Cut(command, []byte{0})
		if filepath.Base(string(program)) == name && bytes.Contains(rest, []byte(clusterState)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			return pid
		}
	}
	return 0
}

// clusterState is the folder that names the cluster's daemons, in their command lines.
const clusterState = "/var/lib/workerpool-cluster/"
