# A machine within the machine, for the walkthrough: run by `unshare` in namespaces of its own. What it mounts and
# starts goes with it. $MACHINE: an empty directory that others may enter; $1: the script to run.
set -eu
ip link set lo up
mount -t tmpfs -o mode=0755 tmpfs "$MACHINE/layers"
for place in etc usr/local var/lib; do
    layer=$MACHINE/layers/$(echo "$place" | tr / -)
    mkdir "$layer" "$layer/upper" "$layer/work"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=$layer/upper,workdir=$layer/work" "/$place"
done
mount -t tmpfs -o mode=0755 tmpfs /srv
mount -t tmpfs -o mode=0700 tmpfs /root
mount -t tmpfs -o mode=0755 tmpfs /run
# By this one tells that systemd is the first process.
mkdir -p /run/systemd/system
cd /root
exec sh "$1"
