"""A playbook of ansible on this machine: its workers are forked processes that write to a queue derived from ours."""

import os
import sys
from pathlib import Path

PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: say something
      debug: {msg: "item {{ item }}"}
      loop: [1, 2, 3]
    - name: write a file
      copy: {content: "written by ansible", dest: "{{ playbook_dir }}/written"}
    - name: run a command
      command: cat "{{ playbook_dir }}/written"
      register: command
    - debug: {var: command.stdout}
    - name: skip
      command: "false"
      when: false
"""


def main():
    import loaded  # noqa: F401
    from ansible.cli.playbook import main as play

    Path("playbook.yml").write_text(PLAYBOOK)
    sys.argv = ["ansible-playbook", "-i", "localhost,", "playbook.yml"]
    try:
        play()
    finally:
        print(Path("written").read_text())


if __name__ == "__main__":
    here = str(Path.cwd())
    quiet = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_DISPLAY_OK_HOSTS": "1"}
    interpreter = {"ANSIBLE_PYTHON_INTERPRETER": sys.executable, "LC_ALL": "C.UTF-8"}
    os.environ.update(HOME=here, ANSIBLE_HOME=here, ANSIBLE_LOCAL_TEMP=f"{here}/tmp", **quiet, **interpreter)
    main()
