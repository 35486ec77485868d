package agent

import (
	"errors"
	"os"
)

// TerminationLog is where the kubelet looks for why a container has ended: it shows that in the pod's status, and the
// operator in the pool's. It is there in each pod.
const TerminationLog = "/dev/termination-log"

// maxFarewell is how much of it the kubelet takes, in bytes.
const maxFarewell = 4096

// Farewell leaves word of why the agent ends, in a file that must be there.
func Farewell(path string, why error) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(clipTo(why.Error(), maxFarewell))
	return errors.Join(err, file.Close())
}
