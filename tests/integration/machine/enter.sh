# A machine within the machine, for the walkthrough: run by `unshare` in namespaces of its own. What it mounts and
# starts goes with it, and what it does not mount anew can be read and not written. $MACHINE: an empty directory that
# others may enter; $OUTSIDE: the namespaces that it must not be in; $1: the script to run.
set -eu
PATH=$PATH:/usr/sbin:/sbin
refuse() {
    echo "enter.sh: $*: nothing is done" >&2
    exit 1
}
[ "$$" = 1 ] || refuse "not the first process of a machine"
for space in mnt net pid ipc uts; do
    here=$(readlink "/proc/self/ns/$space")
    case " ${OUTSIDE:?} " in *" $here "*) refuse "the $space namespace is the real machine's own" ;; esac
    case $OUTSIDE in *"$space:["*) ;; *) refuse "OUTSIDE does not say which $space namespace is the real machine's" ;; esac
done
mount --make-rprivate /
given=$(cut -d ' ' -f 2 /proc/self/mounts | sort -u)
ip link set lo up
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir /run/machine
mount --bind "$MACHINE" /run/machine
for place in $given; do
    case $place in
    /proc | /proc/* | /dev | /dev/* | /run | /run/* | /tmp | /tmp/*) ;;
    *) mount -o remount,bind,ro "$(printf %b "$place")" ;;
    esac
done
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p "$MACHINE"
mount --move /run/machine "$MACHINE"
rmdir /run/machine
mount -t tmpfs -o mode=0755 tmpfs "$MACHINE/layers"
for place in etc usr/local var; do
    layer=$MACHINE/layers/$(echo "$place" | tr / -)
    mkdir "$layer" "$layer/upper" "$layer/work"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=$layer/upper,workdir=$layer/work" "/$place"
done
mount -t tmpfs -o mode=1777 tmpfs /var/tmp
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=0755 tmpfs /srv
mount -t tmpfs -o mode=0700 tmpfs /root
# By this one tells that systemd is the first process.
mkdir -p /run/systemd/system
cd /root
exec sh "$1"
