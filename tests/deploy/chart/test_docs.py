"""The chart's README says what is so."""

import re
import unittest

import yaml

from chart import FOLDER, example, load
from values_table import current_readme, undescribed


class Readme(unittest.TestCase):
    def test_values(self):
        self.assertEqual(undescribed(), [], "values without a `# --` line")
        readme = (FOLDER / "README.md").read_text()
        self.assertEqual(readme, current_readme(), "run tests/deploy/chart/values_table.py --write")

    def test_values_that_it_names_exist(self):
        readme = (FOLDER / "README.md").read_text()
        defaults = load().values
        names = re.findall(r"`((?:[a-z]\w+\.)+\w+)`", readme.split("## Values")[0])
        self.assertGreater(len(names), 10)
        for name in names:
            if name.endswith((".yaml", ".md", ".txt", ".crt", ".json")):
                continue
            value = defaults
            for key in name.split("."):
                self.assertIn(key, value, name)
                value = value[key]

    def test_links(self):
        readme = (FOLDER / "README.md").read_text()
        for link in re.findall(r"\]\(([^)#]+)\)", readme):
            if not link.startswith("http"):
                self.assertTrue((FOLDER / link).exists(), link)

    def test_examples_say_how(self):
        for name in ("laptop", "company", "hosted"):
            self.assertTrue((FOLDER / "examples" / f"{name}.yaml").read_text().startswith("# "))
            self.assertIsInstance(example(name), dict)


if __name__ == "__main__":
    unittest.main()
